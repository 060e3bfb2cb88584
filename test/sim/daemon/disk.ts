import type { Disk } from "../../../daemon/disk.ts";
import type { Process, World } from "../world.ts";

/** `synced`: so many bytes survive a power cut. */
type File = { text: string; synced: number };

const syncMs = 5;

/** A machine's disk in memory: it outlives daemons, and forgets at a power cut what was not synced. */
export class MemoryDisk {
  readonly files = new Map<string, File>();
  /** Nothing can be written until then, in milliseconds since 1970. */
  fullUntil = 0;
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  /** What lies below a folder, as paths. */
  under(folder: string): string[] {
    return [...this.files.keys()].filter((path) => path.startsWith(`${folder}/`));
  }

  /** Writes a file that survives a power cut. */
  write(path: string, text: string) {
    if (this.#world.now < this.fullUntil)
      throw Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });
    this.files.set(path, { text, synced: text.length });
  }

  move(from: string, to: string) {
    for (const [path, file] of [...this.files])
      if (path === from || path.startsWith(`${from}/`)) {
        this.files.delete(path);
        this.files.set(to + path.slice(from.length), file);
      }
  }

  remove(path: string) {
    for (const one of [path, ...this.under(path)]) this.files.delete(one);
  }

  /** What was not synced is torn somewhere. */
  cutPower(chance: () => number) {
    for (const [path, { text, synced }] of this.files) {
      if (synced >= text.length) continue;
      const left = text.slice(0, synced + Math.floor(chance() * (text.length - synced)));
      this.files.set(path, { text: left, synced: left.length });
    }
  }

  /** The disk as one daemon sees it: once that is dead it writes nothing more. */
  as(process: Process): Disk {
    const alive = () => {
      if (!process.alive) throw new Error("the daemon is dead");
    };
    const { files } = this;
    return {
      read: (path) => files.get(path)?.text ?? null,
      append: (path, text) => {
        alive();
        const file = files.get(path) ?? { text: "", synced: 0 };
        this.write(path, file.text + text);
        files.set(path, { text: file.text + text, synced: file.synced });
      },
      replace: (path, text) => {
        alive();
        this.write(path, text);
      },
      sync: process.guard(async (path: string) => {
        const file = files.get(path);
        const synced = file?.text.length ?? 0;
        await process.pause(syncMs);
        if (file) files.set(path, { text: files.get(path)?.text ?? "", synced });
      }),
      truncate: (path, bytes) => {
        alive();
        const file = files.get(path);
        if (file) {
          const text = Buffer.from(file.text).subarray(0, bytes).toString();
          files.set(path, { text, synced: Math.min(file.synced, text.length) });
        }
      },
      size: (path) => {
        const file = files.get(path);
        return file ? Buffer.byteLength(file.text) : null;
      },
      exists: (path) => files.has(path) || this.under(path).length > 0,
      list: (folder) => [
        ...new Set(
          this.under(folder).map((path) => path.slice(folder.length + 1).split("/")[0] ?? ""),
        ),
      ],
      move: process.guard(async (from: string, to: string) => this.move(from, to)),
      remove: process.guard(async (path: string) => this.remove(path)),
      free: async () => 2 ** 40,
    };
  }
}
