import type { Intent } from "../state/intent.ts";
import { buttonLabels } from "./origin.ts";

/** What an intent asked for, in a few words of plain text. */
export function intentWords({ request }: Pick<Intent, "request">): string {
  switch (request.type) {
    case "label":
      return `label ${request.label}`;
    case "command":
      return `/trimo ${request.command}`;
    case "button":
      return `button ${buttonLabels[request.button]}`;
    case "review":
      return "a review that asks for changes";
    case "ci":
      return `a failed check on ${request.sha.slice(0, 7)}`;
    case "schedule":
      return "schedule";
    case "pull":
      return `pull request #${request.pull} ${request.change}`;
    case "branch_deleted":
      return `branch ${request.branch} deleted`;
    case "issue":
      return `issue ${request.change}`;
    case "repository":
      return `repository ${request.change}`;
  }
}

/** What came of an intent, in a few words of plain text. */
export function outcomeWords({ outcome, reply }: Pick<Intent, "outcome" | "reply">): string {
  switch (outcome) {
    case "run":
      return "run started";
    case "cancel":
      return "run stopped";
    case "done":
      return "pipeline completed";
    case "refused":
      return "refused";
    case "answered":
      return reply === null ? "nothing to do" : "answered";
    case "offered":
      return "fix offered";
    case "ended":
      return "handled";
  }
}
