/** What the daemon hands to a container on its stdin, as one line of JSON. */
export type Task = {
  /** `rescue`: the workspace holds a dead run's work; commit and push it, nothing else. */
  mode: "run" | "rescue";
  /** Of a rescue: whether the agent had begun, so that what lies there may be its work. */
  agentBegan: boolean;
  branch: string;
  base: string;
  /** Exported to the agent's login shell; no secret is among them. */
  env: Record<string, string>;
  prompt: string;
  /** The agent's command line. */
  command: string[];
  /** What an agent begins with whose session cannot be put back; null: it has none to go on with. */
  fresh: { prompt: string; command: string[] } | null;
  /** The agent's session files, below its home: put back before it starts, taken out when it has ended. */
  session: { key: string; restore: boolean; paths: string[] };
  /** Files below the agent's home, for its own login; empty unless daemon.yml exposes one. */
  files: { path: string; text: string }[];
  verify: string[];
  author: { name: string; email: string };
  /** The message of the commit that gathers what the agent left uncommitted. */
  leftoverMessage: string;
  /** And of the one that keeps what there was when the run was stopped. */
  stoppedMessage: string;
  /** For the whole run, in milliseconds. */
  timeMs: number;
  prebootMs: number;
  /** How long each step that needs the daemon waits for it to come back, in milliseconds. */
  awayMs: number;
  /** Of the machine's, as many as the container may use. */
  cpus: number;
  outputBytesMax: number;
  /** What the run may write in all, and what it should leave free on the engine's disk. */
  diskBytes: number;
  reserveBytes: number;
};

/** How the driver speaks to an agent that takes messages while it works. */
export type DriverSettings = {
  kind: "stream-json" | "acp";
  /** The session to go on with, where the driver has to ask for it. */
  session: string | null;
};

/** The limit at which an agent was ended. */
export type StopReason = "time" | "output" | "memory" | "disk" | "pids";

/** A line of /var/lib/trimo/journal: what root saw happen; the agent cannot write there. */
export type Line = { at: number } & (
  | {
      type: "stage";
      stage: "cloning" | "preboot" | "agent" | "committing" | "verifying" | "pushing";
    }
  | {
      type: "agent";
      exit: number | null;
      signal: string | null;
      stopReason: StopReason | null;
    }
  | { type: "receipt"; index: number; command: string; exit: number; durationMs: number }
  | { type: "notice"; text: string }
  /** Whether the agent got its session back. */
  | { type: "session"; restored: boolean; why: string }
  | {
      type: "service";
      name: string;
      state: "ready" | "died" | "running";
      durationMs: number;
      tail: string;
    }
  | {
      type: "failed";
      code: "clone_failed" | "image_broken" | "preboot_failed" | "push_refused";
      detail: string;
    }
  /** `nothing`: a rescue found no checkout on the volume; images of before do not say it. */
  | { type: "end"; stopped: boolean; pushed: boolean; nothing?: boolean }
);

export const places = {
  journal: "/var/lib/trimo/journal",
  output: "/var/lib/trimo/output",
  services: "/var/lib/trimo/services",
  preboot: "/var/lib/trimo/preboot.log",
  verify: (index: number): string => `/var/lib/trimo/verify-${index}.log`,
  workspace: "/workspace",
  remote: "http://127.0.0.1:3128/repository.git",
  snapshots: "/var/lib/trimo/snapshots",
  snapshotRemote: "http://127.0.0.1:3128/snapshot.git",
} as const;
