/** Aborts when the container is asked to stop: the agent is ended, and what is there is committed. */
export const stop = new AbortController();
process.on("SIGTERM", () => stop.abort());
process.on("SIGINT", () => stop.abort());
