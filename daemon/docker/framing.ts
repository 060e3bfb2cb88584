import { type Duplex, type Readable, Transform, type TransformCallback } from "node:stream";

// What Docker wraps its streams in: frames of type, 3 zeros, length, payload; and ustar archives.

/** Stdout out of a stream of frames, heeding back-pressure. */
export function demultiplexed(stream: Duplex): Readable {
  return stream.pipe(new Demultiplexer());
}

class Demultiplexer extends Transform {
  #rest: Buffer = Buffer.alloc(0);

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback) {
    let data = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    while (data.length >= 8) {
      const length = data.readUInt32BE(4);
      if (data.length < 8 + length) break;
      if (data[0] === 1) this.push(data.subarray(8, 8 + length));
      data = data.subarray(8 + length);
    }
    this.#rest = data;
    done();
  }
}

/** The payloads of whole frames, stdout and stderr in their order. */
export function unframed(raw: Buffer): string {
  let text = "";
  for (let at = 0; at + 8 <= raw.length; at += 8 + raw.readUInt32BE(at + 4))
    text += raw.subarray(at + 8, at + 8 + raw.readUInt32BE(at + 4)).toString("utf8");
  return text;
}

/** The one file of a ustar archive: its size in octal at byte 124, its bytes after the first block. */
export function firstOfTar(tar: Buffer): Buffer {
  if (tar.length < 512) return Buffer.alloc(0);
  const type = String.fromCharCode(tar[156] ?? 0);
  const size = Number.parseInt(tar.subarray(124, 136).toString("ascii").replace(/\0.*$/, ""), 8);
  if (type === "x" || type === "g" || type === "L")
    return firstOfTar(tar.subarray(512 + Math.ceil(size / 512) * 512));
  if (type !== "0" && type !== "\0") return Buffer.alloc(0);
  return tar.subarray(512, 512 + size);
}
