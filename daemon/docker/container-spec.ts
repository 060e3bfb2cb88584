import type { ContainerCreateOptions } from "dockerode";

const runLabel = "dev.trimo.run";
export const daemonLabel = "dev.trimo.daemon";

/** The seven that preboot needs to start services as their own users; the agent gets none of them. */
const capabilities = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "SETPCAP", "KILL"];
const sharedMemoryBytes = 256 * 2 ** 20;

export type Box = {
  run: string;
  attempt: number;
  /** Whose it is: the daemon's data folder, so that two daemons on one engine never meet. */
  daemon: string;
  image: string;
  cpus: number;
  memoryBytes: number;
  pids: number;
};

export const volumeName = (run: string, attempt: number): string => `trimo-${run}-${attempt}`;

/** What Docker is asked for: pure. */
export function containerSpec(box: Box): ContainerCreateOptions {
  const labels = {
    [runLabel]: box.run,
    [daemonLabel]: box.daemon,
    "dev.trimo.attempt": String(box.attempt),
  };
  const name = volumeName(box.run, box.attempt);
  return {
    name,
    Image: box.image,
    User: "0:0",
    WorkingDir: "/",
    Hostname: "trimo",
    Entrypoint: ["/opt/trimo/node/bin/node", "/opt/trimo/entrypoint.js"],
    Cmd: [],
    OpenStdin: true,
    StdinOnce: true,
    AttachStdin: true,
    Labels: labels,
    HostConfig: {
      NetworkMode: "none",
      Init: true,
      CapDrop: ["ALL"],
      CapAdd: capabilities,
      SecurityOpt: ["no-new-privileges"],
      NanoCpus: Math.round(box.cpus * 1e9),
      Memory: box.memoryBytes,
      MemorySwap: box.memoryBytes,
      PidsLimit: box.pids,
      ShmSize: sharedMemoryBytes,
      LogConfig: { Type: "json-file", Config: { "max-size": "10m", "max-file": "3" } },
      RestartPolicy: { Name: "no" },
      Mounts: [
        {
          Type: "volume",
          Source: name,
          Target: "/workspace",
          VolumeOptions: {
            NoCopy: true,
            Labels: labels,
            DriverConfig: { Name: "local", Options: {} },
          },
        },
      ],
    },
  };
}
