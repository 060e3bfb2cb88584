import { utcTime } from "../protocol/clock.ts";
import type { Position } from "../state/position.ts";
import { code, plain } from "../text/markdown.ts";
import { ordinal, roughly } from "./units.ts";

/** `where`: a piece of a sentence; `why`: whole sentences. Both in Markdown. */
type Words = { where: string; why: string };

/** Where a queued run stands and what it waits for. */
export function positionWords({ position, waits, startsInMs }: Position): Words {
  const place = placeWords(position);
  switch (waits.for) {
    case "hold":
      return { where: "on hold", why: "It waits until the label `trimo:hold` is removed." };
    case "suspended":
      return { where: "paused", why: "It waits until the GitHub App is no longer suspended." };
    case "pipeline":
      return {
        where: `behind run ${waits.run}`,
        why: `It waits for run ${waits.run} of the same pipeline to end.`,
      };
    case "quota":
      return quotaWords(waits, startsInMs ?? 0);
    case "github":
      return { where: "waiting for GitHub", why: refusedWords(waits) };
    case "branch":
      return { where: place, why: "Its branch and prompt are being prepared." };
    case "daemon":
      return { where: "waiting for a machine", why: awayWords(waits.away) };
    case "slot":
      return { where: `${place}${soonWords(startsInMs)}`, why: slotWords(waits.daemons, position) };
  }
}

function refusedWords({ why, since }: Extract<Position["waits"], { for: "github" }>): string {
  return `GitHub has refused what it needs since ${utcTime(since)}: ${plain(why, 300)}. Trimo keeps trying.`;
}

function placeWords(position: number | null): string {
  if (position === null) return "waiting";
  return position === 1 ? "next in line" : `${ordinal(position)} in line`;
}

function soonWords(startsInMs: number | null): string {
  if (startsInMs === null) return "";
  if (startsInMs < 5_000) return " · starts in a moment";
  return ` · starts in about ${roughly(startsInMs)}`;
}

function quotaWords(waits: Extract<Position["waits"], { for: "quota" }>, inMs: number): Words {
  const at = `${new Date(waits.until).toISOString().slice(0, 16).replace("T", " ")} UTC`;
  const on = waits.daemons.map(code).join(" and ");
  if (waits.code === "model_overloaded")
    return {
      where: `waiting for the model's service · starts in about ${roughly(inMs)}`,
      why: `The service behind ${code(waits.agent)} on ${on} did not answer properly; the run starts by itself at ${at}.`,
    };
  return {
    where: `waiting for quota · starts in about ${roughly(inMs)}`,
    why: `The quota of ${code(waits.agent)} on ${on} is used up until ${at}; the run starts by itself then.`,
  };
}

type Slots = Extract<Position["waits"], { for: "slot" }>["daemons"];

function slotWords(daemons: Slots, position: number | null): string {
  if (daemons.some(({ busy, slots }) => busy < slots))
    return position === 1 ? "A slot is free: it starts now." : "The runs before it are starting.";
  const busy = daemons.map(({ name, busy, slots }) => `${code(name)} (${busy} of ${slots} busy)`);
  return `It waits for a slot on ${busy.join(" or ")}.`;
}

function awayWords(away: string[]): string {
  if (away.length === 0)
    return "No enrolled machine serves this repository with this agent: see `repositories:` and `agents:` in daemon.yml.";
  return `${away.map(code).join(" and ")} ${away.length === 1 ? "is" : "are"} away; it starts when one is back.`;
}
