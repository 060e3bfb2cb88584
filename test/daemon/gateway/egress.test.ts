import { expect, test } from "vitest";
import { decide, type Rules } from "../../../daemon/gateway/egress.ts";
import { matchesHost } from "../../../daemon/gateway/host.ts";
import { serverNameOf } from "../../../daemon/gateway/server-name.ts";

const rules = (mode: Rules["mode"], machine: string[] = [], repository: string[] = []): Rules => ({
  mode,
  machine,
  repository,
  forge: "github.com",
});

test.each([
  ["1.1.1.1:443", "an address"],
  ["[::1]:80", "an address"],
  ["169.254.169.254:80", "an address"],
  ["2130706433:80", "an address"],
  ["0x7f.1:80", "an address"],
  ["example.com", "not host:port"],
  ["example.com:0", "not host:port"],
  ["example.com:99999", "not host:port"],
  ["exa mple.com:443", "not a name"],
  ["github.com:443", "the forge"],
  ["api.github.com:443", "the forge"],
  ["GITHUB.com.:443", "the forge"],
])("%s is never reached: %s", async (target, reason) => {
  const found = await decide(rules("open"), target);
  expect(found.address).toBeNull();
  expect(found.reason).toContain(reason);
});

test("a name that is on no list is not even looked up", async () => {
  expect((await decide(rules("default"), "example.com:443")).reason).toBe("not on the list");
  expect((await decide(rules("default", ["example.com:8443"]), "example.com:443")).reason).toBe(
    "not on the list",
  );
  expect((await decide(rules("locked", [], ["localhost:80"]), "localhost:80")).reason).toBe(
    "not on the list",
  );
});

test("this machine itself is never reached, whoever lists it", async () => {
  expect((await decide(rules("default", ["localhost:80"]), "localhost:80")).reason).toBe(
    "this machine itself",
  );
  expect((await decide(rules("default", [], ["localhost:80"]), "localhost:80")).reason).toBe(
    "a private address",
  );
});

test("a star stands for names below, not for the name itself nor for another's end", () => {
  expect(matchesHost("a.b.example.com", 443, ["*.example.com:443"])).toBe(true);
  expect(matchesHost("example.com", 443, ["*.example.com:443"])).toBe(false);
  expect(matchesHost("evilexample.com", 443, ["*.example.com:443", "example.com:443"])).toBe(false);
  expect(matchesHost("example.com", 80, ["example.com:443"])).toBe(false);
});

test("the server name is read from a ClientHello, and nothing from anything else", () => {
  expect(serverNameOf(hello("Registry.Example.com"))).toBe("registry.example.com");
  expect(serverNameOf(Buffer.from("GET / HTTP/1.1\r\n\r\n"))).toBeNull();
  expect(serverNameOf(Buffer.alloc(0))).toBeNull();
  const whole = hello("example.com");
  for (let cut = 0; cut < whole.length - 1; cut++)
    expect([null, "example.com", expect.any(String)]).toContainEqual(
      serverNameOf(whole.subarray(0, cut)),
    );
});

/** A ClientHello with one cipher and one extension, server_name. */
function hello(name: string): Buffer {
  const host = Buffer.from(name);
  const extension = Buffer.concat([
    u16(0),
    u16(host.length + 5),
    u16(host.length + 3),
    Buffer.from([0]),
    u16(host.length),
    host,
  ]);
  const body = Buffer.concat([
    u16(0x0303),
    Buffer.alloc(32),
    Buffer.from([0]),
    u16(2),
    u16(0x1301),
    Buffer.from([1, 0]),
    u16(extension.length),
    extension,
  ]);
  const handshake = Buffer.concat([Buffer.from([1, 0]), u16(body.length), body]);
  return Buffer.concat([Buffer.from([22, 3, 1]), u16(handshake.length), handshake]);
}
function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
