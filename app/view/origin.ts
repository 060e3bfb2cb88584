import type { Button } from "../github/objects.ts";
import type { Origin } from "../state/origin.ts";

/** The labels of a check run's buttons. */
export const buttonLabels: Record<Button, string> = {
  again: "Run again",
  fix: "Fix it",
  continue: "Continue",
};

/** What asked for a run, as a person would say it: `label trimo`, `/trimo fix`. Plain text. */
export function originWords(origin: Origin): string {
  switch (origin.by) {
    case "label":
      return `label ${origin.label}`;
    case "comment":
      return `/trimo ${origin.command}`;
    case "button":
      return buttonLabels[origin.button];
    case "ci":
      return `failed check: ${origin.app}`;
    case "schedule":
      return "schedule";
    case "unheard":
      return "/trimo tell";
    case "quota":
      return `${originWords(origin.first)}, continued after a pause`;
  }
}
