import { lookup } from "node:dns/promises";
import { request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { BlockList, connect, isIP, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import type { Duplex } from "node:stream";
import { matchesHost } from "./host.ts";
import { serverNameOf } from "./server-name.ts";

export type Rules = {
  mode: "locked" | "default" | "open";
  /** The machine's own list: these may lie in the private network. */
  machine: string[];
  /** What the repository asks for: never in a private network. */
  repository: string[];
  /** The forge's host: reached through the gate only. */
  forge: string;
};
export type Connection = { host: string; allowed: boolean; reason: string };

const connectMsMax = 15_000;
const idleMsMax = 10 * 60_000;
const helloBytesMax = 16 * 1024;

/** Serves a container's CONNECT: to an allowed name, at an address resolved here, as that very name. */
export async function tunnelOut(
  rules: Rules,
  target: string,
  client: Duplex,
  head: Buffer,
  tell: (connection: Connection) => void,
) {
  const found = await decide(rules, target);
  tell({ host: target.slice(0, 300), allowed: found.address !== null, reason: found.reason });
  if (found.address === null) {
    client.end(
      `HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\n\r\n${refusal(target, found.reason)}`,
    );
    return;
  }
  client.write("HTTP/1.1 200 Connection established\r\n\r\n");
  const hello = await firstBytes(client, head);
  const name = serverNameOf(hello);
  if (name !== found.host) {
    const reason = name ? `TLS asks for ${name}` : "not TLS with a server name";
    tell({ host: target.slice(0, 300), allowed: false, reason });
    client.destroy();
    return;
  }
  const upstream = connect({ host: found.address, port: found.port, timeout: connectMsMax });
  join(client, upstream, hello);
}

/** Serves a container's plain request in absolute form, `GET http://host/…`, by the same rules as CONNECT. */
export async function forward(
  rules: Rules,
  request: IncomingMessage,
  response: ServerResponse,
  tell: (connection: Connection) => void,
) {
  const url = new URL(request.url ?? "");
  const target = `${url.hostname}:${url.port || 80}`;
  const found = await decide(rules, target);
  tell({ host: target, allowed: found.address !== null, reason: found.reason });
  if (found.address === null || url.protocol !== "http:") {
    response.writeHead(403, { "content-type": "text/plain" }).end(refusal(target, found.reason));
    return;
  }
  const headers = { ...request.headers, host: url.host };
  for (const name of ["proxy-authorization", "proxy-connection", "connection"])
    delete (headers as Record<string, unknown>)[name];
  const upstream = httpRequest({
    host: found.address,
    port: found.port,
    method: request.method,
    path: `${url.pathname}${url.search}`,
    headers,
    timeout: connectMsMax,
  });
  upstream.on("response", (answer) => {
    const status = answer.statusCode ?? 502;
    // A server may send what Node will not pass on, such as a status of 099.
    if (status < 200 || status > 599) return upstream.destroy(new Error(`HTTP status ${status}`));
    response.writeHead(status, answer.headers);
    answer.pipe(response);
  });
  upstream.on("timeout", () => upstream.destroy(new Error("timed out")));
  upstream.on("error", (error) => {
    if (!response.headersSent) response.writeHead(502, { "content-type": "text/plain" });
    response.end(`${target}: ${error.message}\n`);
  });
  request.pipe(upstream);
}

type Decision = { host: string; port: number; address: string | null; reason: string };

/**
 * Decides whether a host may be reached, and at which address: it is resolved once, so that a second answer
 * cannot point elsewhere.
 */
export async function decide(rules: Rules, target: string): Promise<Decision> {
  const colon = target.lastIndexOf(":");
  const host = target.slice(0, colon).toLowerCase().replace(/\.$/, "");
  const port = Number(target.slice(colon + 1));
  const no = (reason: string): Decision => ({ host, port, address: null, reason });
  if (colon < 1 || !Number.isInteger(port) || port < 1 || port > 65_535) return no("not host:port");
  // WHATWG URL: a host whose last part is a number is an IPv4 address in some notation.
  if (isIP(host.replace(/^\[|\]$/g, "")) || /(^|\.)(\d+|0x[0-9a-f]*)$/.test(host))
    return no("an address, not a name");
  if (!/^[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?$/.test(host)) return no("not a name");
  if (host === rules.forge || host.endsWith(`.${rules.forge}`))
    return no("the forge is reached by git only");
  const byMachine = matchesHost(host, port, rules.machine);
  const byRepository = rules.mode !== "locked" && matchesHost(host, port, rules.repository);
  const open = rules.mode === "open" && (port === 80 || port === 443);
  if (!byMachine && !byRepository && !open) return no("not on the list");
  const addresses = await lookup(host, { all: true }).catch(() => []);
  const address = addresses.find((row) => byMachine || !isPrivate(row.address))?.address;
  if (!address) return no(addresses.length > 0 ? "a private address" : "no such host");
  if (isNever(address) || isOwn(address)) return no("this machine itself");
  return {
    host,
    port,
    address,
    reason: byMachine ? "daemon.yml" : byRepository ? "trimo.yml" : "open",
  };
}

function refusal(target: string, reason: string): string {
  return `Trimo keeps this run from ${target}: ${reason}. A machine's daemon.yml, or the repository's .github/trimo.yml, can allow it under egress.\n`;
}

/** Loopback, link-local with the clouds' metadata, and nowhere: not even for the machine's own list. */
const never = new BlockList();
for (const [net, bits] of [
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["0.0.0.0", 8],
] as const)
  never.addSubnet(net, bits);
never.addAddress("::1", "ipv6");
never.addAddress("::", "ipv6");
never.addSubnet("fe80::", 10, "ipv6");

/** RFC 6890's special-purpose ranges. */
const reserved = new BlockList();
for (const [net, bits] of [
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["224.0.0.0", 3],
] as const)
  reserved.addSubnet(net, bits);
reserved.addSubnet("fc00::", 7, "ipv6");
reserved.addSubnet("ff00::", 8, "ipv6");
reserved.addSubnet("64:ff9b::", 96, "ipv6");

function check(list: BlockList, address: string): boolean {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  const plain = mapped ?? address;
  return list.check(plain, isIP(plain) === 6 ? "ipv6" : "ipv4");
}
/** Any of this machine's own addresses: what listens here is inside the firewall. */
function isOwn(address: string): boolean {
  return Object.values(networkInterfaces())
    .flat()
    .some((row) => row?.address === address.replace(/^::ffff:/i, ""));
}

const isNever = (address: string) => check(never, address);
const isPrivate = (address: string) => isNever(address) || check(reserved, address);

function join(client: Duplex, upstream: Socket, first: Buffer) {
  upstream.on("connect", () => {
    upstream.setTimeout(idleMsMax);
    upstream.write(first);
    client.pipe(upstream);
    upstream.pipe(client);
  });
  upstream.on("timeout", () => upstream.destroy());
  upstream.on("error", () => client.destroy());
  client.on("error", () => upstream.destroy());
  client.on("close", () => upstream.destroy());
  upstream.on("close", () => client.destroy());
}

/** The client's first flight, whole enough to say which name it asks for. */
function firstBytes(client: Duplex, head: Buffer): Promise<Buffer> {
  return new Promise((resolve) => {
    let bytes = head;
    const done = () => {
      client.off("data", take);
      client.off("close", done);
      client.pause();
      resolve(bytes);
    };
    const take = (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      if (isWhole(bytes)) done();
    };
    if (isWhole(bytes)) return done();
    client.on("data", take);
    client.on("close", done);
  });
}

function isWhole(bytes: Buffer): boolean {
  if (bytes.length >= helloBytesMax) return true;
  if (bytes.length > 0 && bytes[0] !== 22) return true;
  return bytes.length >= 5 && bytes.length >= 5 + bytes.readUInt16BE(3);
}
