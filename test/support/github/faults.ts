/** A fault of GitHub's, switched on by a test: matched against `METHOD /path` of the API. */
export type Fault = {
  when: RegExp;
  /** How many requests it hits. */
  times: number;
  /** Before: nothing happens. After: it is done, and the answer is lost. */
  at: "before" | "after";
  status: number;
  headers?: Record<string, string>;
  delayMs?: number;
  /** Done before the answer, for example killing who asked. */
  act?: () => Promise<void>;
};

/** What happens to deliveries while it is on. */
export type DeliveryFault = "none" | "drop" | "double";

export function takeFault(faults: Fault[], request: string): Fault | null {
  const fault = faults.find((one) => one.times > 0 && one.when.test(request));
  if (fault) fault.times -= 1;
  return fault ?? null;
}
