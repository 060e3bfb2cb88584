import type { ContainerCreateOptions } from "dockerode";

const runLabel = "dev.trimo.run";
export const daemonLabel = "dev.trimo.daemon";

/** The seven that preboot needs to start services as their own users; the agent gets none of them. */
const capabilities = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "SETPCAP", "KILL"];
const sharedMemoryBytes = 256 * 2 ** 20;

export type ContainerRequest = {
  run: string;
  attempt: number;
  /** Whose it is: the daemon's data folder, so that two daemons on one engine never meet. */
  daemon: string;
  image: string;
  cpus: number;
  memoryBytes: number;
  pids: number;
};

/** The name of an attempt's volume, and of its container. */
export const volumeName = (run: string, attempt: number): string => `trimo-${run}-${attempt}`;

/** The request by which Docker creates a container. Pure. */
export function containerSpec(request: ContainerRequest): ContainerCreateOptions {
  const labels = {
    [runLabel]: request.run,
    [daemonLabel]: request.daemon,
    "dev.trimo.attempt": String(request.attempt),
  };
  const name = volumeName(request.run, request.attempt);
  return {
    name,
    Image: request.image,
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
      NanoCpus: Math.round(request.cpus * 1e9),
      Memory: request.memoryBytes,
      MemorySwap: request.memoryBytes,
      PidsLimit: request.pids,
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
