import { expect, test } from "vitest";
import { isTrouble } from "../../images/base/gateway.ts";

// As git 2.39 prints it.
test.each([
  [
    true,
    "remote: fatal: write error: No space left on device\n! [remote rejected] HEAD -> trimo/1-full (unpacker error)",
  ],
  [true, "error: remote unpack failed: unable to create temporary object directory"],
  [false, "fatal: write error: No space left on device"],
  [
    false,
    "error: remote unpack failed: index-pack abnormal exit\n! [remote rejected] x -> x (unpacker error)",
  ],
  [
    false,
    "remote: fatal: pack exceeds maximum allowed size (512.00 MiB)\n! [remote rejected] x -> x (unpacker error)",
  ],
  [
    false,
    "error: RPC failed; HTTP 413 curl 22 The requested URL returned error: 413\nfatal: the remote end hung up unexpectedly",
  ],
  [true, "error: RPC failed; HTTP 503 curl 22 The requested URL returned error: 503"],
  [true, "fatal: the remote end hung up unexpectedly"],
  [
    false,
    "remote: trimo: only the branch x can be pushed\n! [remote rejected] x -> y (pre-receive hook declined)",
  ],
  [false, "remote: No space left for y\n! [remote rejected] x -> y (pre-receive hook declined)"],
  [false, "! [rejected] HEAD -> x (non-fast-forward)"],
  [false, "fatal: bad object HEAD"],
])("is trouble of the daemon's own, which passes: %s: %s", (passes, output) => {
  expect(isTrouble(output)).toBe(passes);
});
