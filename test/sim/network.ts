import type { Faults } from "./faults.ts";
import { between, type Process, type World } from "./world.ts";

/** A request of a daemon to the app, as it arrives; it throws where nobody is there. */
export type Reach = (
  path: string,
  token: string,
  body: object,
) => Promise<{ status: number; body: unknown }>;

type Parts = {
  world: World;
  faults: Faults;
  reach: Reach;
  process: Process;
  /** The machine, and what it shows the app. */
  name: string;
  token: string;
};

const networkMs = { least: 1, most: 40 };
/** Until a machine gives a lost request up. */
const lostMs = 500;

/** Whether the machine has a network now. */
export const isCut = ({ world, faults, name }: Pick<Parts, "world" | "faults" | "name">): boolean =>
  world.now < (faults.cutUntil.get(name) ?? 0);

/** Makes requests over a network that loses requests and answers, and doubles some. */
export function createNetwork(parts: Parts) {
  const { name, token, faults, reach, world, process } = parts;
  const { clock } = process;
  const pause = () => process.pause(between(clock.chance, networkMs.least, networkMs.most));
  const lost = async (): Promise<never> => {
    await process.pause(lostMs);
    throw new Error("unreachable");
  };
  return async (path: string, body: object) => {
    await pause();
    if (isCut(parts)) return await lost();
    const fault = faults.network.get(name)?.shift();
    if (fault) world.say(name, path, "is", fault.how);
    if (fault?.how === "lost") return await lost();
    if (fault?.how === "doubled") void reach(path, token, body).catch(() => {});
    const answer = await reach(path, token, body).catch(lost);
    await pause();
    if (fault?.how === "unanswered") return await lost();
    return answer;
  };
}
