/**
 * The server name of a TLS ClientHello (RFC 8446, 4.1.2; RFC 6066, 3), in lower case; null when the
 * bytes are no such thing or name none.
 */
export function serverNameOf(bytes: Buffer): string | null {
  try {
    return read(bytes);
  } catch {
    // A length that points outside of the bytes: not a ClientHello.
    return null;
  }
}

function read(bytes: Buffer): string | null {
  const handshake = 22;
  const clientHello = 1;
  if (bytes.readUInt8(0) !== handshake || bytes.readUInt8(5) !== clientHello) return null;
  let at = 5 + 4 + 2 + 32;
  at += 1 + bytes.readUInt8(at);
  at += 2 + bytes.readUInt16BE(at);
  at += 1 + bytes.readUInt8(at);
  const end = at + 2 + bytes.readUInt16BE(at);
  at += 2;
  while (at + 4 <= end) {
    const type = bytes.readUInt16BE(at);
    const length = bytes.readUInt16BE(at + 2);
    if (type === 0) {
      const nameLength = bytes.readUInt16BE(at + 7);
      return (
        bytes
          .subarray(at + 9, at + 9 + nameLength)
          .toString("latin1")
          .toLowerCase() || null
      );
    }
    at += 4 + length;
  }
  return null;
}
