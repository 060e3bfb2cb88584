// `trimo image check`: starts the image as a run would, with a small repository, its preboot and an
// agent that only looks around; what it saw becomes findings, each says how to fix it.

/** `fail`: a run would fail. `warn`: it would surprise. */
export type Finding = { level: "fail" | "warn"; code: string; what: string; fix: string };
