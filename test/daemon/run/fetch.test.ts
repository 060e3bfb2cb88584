import { expect, test } from "vitest";
import { GitError } from "../../../daemon/repository/git.ts";
import { Patience } from "../../../daemon/run/fetch.ts";
import { ServerError } from "../../../daemon/server/client.ts";

const minute = 60_000;
const away = new GitError("fatal: unable to access: The requested URL returned error: 503");
const refused = new GitError("remote: Repository not found.");

test.each<[string, GitError["kind"]]>([
  ["unable to access 'https://x/': The requested URL returned error: 503", "away"],
  ["unable to access 'https://x/': Could not resolve host: github.com", "away"],
  ["Failed to connect to github.com port 443 after 130 ms: Connection refused", "away"],
  ["error: RPC failed; HTTP 502 curl 22", "away"],
  ["fetch-pack: unexpected disconnect while reading sideband packet", "away"],
  ["! [remote rejected] HEAD -> x (Internal Server Error)", "away"],
  ["remote: fatal error in commit_refs", "away"],
  ["block timeout reached", "away"],
  ["error: RPC failed; HTTP 403 curl 22 The requested URL returned error: 403", "refused"],
  ["remote: Repository not found.", "refused"],
  ["fatal: Authentication failed for 'https://x/'", "refused"],
  ["! [remote rejected] HEAD -> main (protected branch hook declined)", "refused"],
  ["fatal: something nobody has seen before", "refused"],
])("%s is %s", (message, kind) => {
  expect(new GitError(message).kind).toBe(kind);
});

test("a GitHub that is away is waited for, half an hour long", () => {
  const patience = new Patience(0);
  for (const at of [0, 20_000, 5 * minute, 29 * minute]) expect(patience.has(away, at)).toBe(true);
  expect(patience.has(away, 30 * minute)).toBe(false);
});

test("so is an app that does not answer; one that says no is believed at once", () => {
  const patience = new Patience(0);
  expect(patience.has(new ServerError("unreachable", "x"), minute)).toBe(true);
  expect(patience.has(new ServerError("stale", "x"), minute)).toBe(false);
});

test("a refusal is believed after three in a row over a minute", () => {
  const patience = new Patience(0);
  expect([0, 1_000, 2_000, 59_000].map((at) => patience.has(refused, at))).toEqual([
    true,
    true,
    true,
    true,
  ]);
  expect(patience.has(refused, minute)).toBe(false);
});

test("an outage in between begins the count anew", () => {
  const patience = new Patience(0);
  for (const at of [0, 1_000]) patience.has(refused, at);
  patience.has(away, 40_000);
  expect(patience.has(refused, 61_000)).toBe(true);
  expect(patience.has(refused, 80_000)).toBe(true);
  expect(patience.has(refused, 121_001)).toBe(false);
});

test("what can never be used as it is, and Trimo's own faults, are not tried again", () => {
  const patience = new Patience(0);
  expect(patience.has(new GitError("the repository has no commit yet", "final"), 0)).toBe(false);
  expect(patience.has(new Error("a bug"), 0)).toBe(false);
});
