import { trimoYmlPath } from "../protocol/trimo-yml.ts";
import type { NotHeard, Reply, ReplyOf, StatusRun } from "../state/reply.ts";
import { code, cut, plain } from "../text/markdown.ts";
import { causeWords } from "./cause.ts";
import { commentBytesMax } from "./comment-body.ts";
import { helpTable } from "./help.ts";
import { mistakeList } from "./mistakes.ts";
import { positionWords } from "./position.ts";
import { count, duration } from "./units.ts";

type Words = { [Kind in Reply["kind"]]: (reply: ReplyOf<Kind>) => string };

/** Every answer Trimo gives in a comment of its own, in Markdown: one function each. */
const words: Words = {
  help: ({ needs }) => helpTable(needs),
  status: ({ pipeline, runs }) => statusWords(pipeline, runs),
  misunderstood: ({ about }) => misunderstoodWords(about),
  refused: ({ to, what, need, has }) => {
    const thing = "label" in what ? `the label ${code(what.label)}` : `\`/trimo ${what.command}\``;
    const own = has === "none" ? "no permission here" : `${has} permission`;
    return `⛔ @${plain(to, 60)}, ${thing} needs ${need} permission here, and you have ${own}. Someone who has it can do it in your place.`;
  },
  config_mistakes: ({ branch, mistakes }) =>
    `No run was started, because \`${trimoYmlPath}\` on ${code(branch)} has mistakes:\n\n${mistakeList(mistakes)}`,
  closed: ({ what, label }) => {
    if (label) return "This is closed. Reopen it, then add the label again.";
    return `This ${what === "pull" ? "pull request" : "issue"} is closed. Reopen it first.`;
  },
  no_run_yet: ({ command }) =>
    `There is no run here yet to ${command === "retry" ? "repeat" : "build on"}. \`/trimo run\` starts one.`,
  odd_branch: ({ branch, isDefault }) =>
    `Trimo does not pass ${isDefault ? "the default branch's" : "this branch's"} name to git: ${code(branch)}. It takes letters, digits and . _ / - + # @.`,
  fork: () =>
    "This pull request comes from a fork, and Trimo pushes only to branches of this repository.",
  from_default_branch: () =>
    "This pull request comes from the default branch, and no run works on that.",
  unknown_agent: ({ agent, known }) =>
    `No machine here has an agent named ${code(agent)}. Available: ${known.map(code).join(", ")}.`,
  pipeline_ended: ({ now }) =>
    now
      ? "The pipeline ended just now. `/trimo run` under its issue starts a new one."
      : "This pipeline has ended. `/trimo run` under its issue starts a new one.",
  duplicate: ({ run }) => `You asked for this a moment ago: it is run ${run}.`,
  nothing_to_cancel: () => "No run is queued or running here.",
  cancelled_since: ({ label }) => {
    const again = label === null ? "ask again" : `add the label ${code(label)} again`;
    return `Nothing was started: \`/trimo cancel\` was said after this. If it is still wanted, ${again}.`;
  },
  asked_since: ({ run }) => `Run ${run} was asked for after this, so it goes on.`,
  already_stopping: ({ run, cause }) =>
    `Run ${run} is already being stopped by ${plain(causeWords(cause), 60)}.`,
  tell_empty: () => "Add your message: `/trimo tell …`.",
  tell_too_long: ({ max }) => `A message can have at most ${max} characters.`,
  tell_ended: ({ run }) =>
    `Run ${run} ended just now. \`/trimo fix\` with your message starts the next run.`,
  tell_full: ({ run }) => `Run ${run} has been sent as many messages as a run can take.`,
  tell_is_run: ({ run, first, because }) =>
    `${notHeardWords(because)}, so your message is now run ${run}, ${first ? "the first one here" : "a corrective run"}.`,
  nothing_to_complete: () => "There is nothing to complete here.",
  complete_later: ({ run, queued }) =>
    `Run ${run} is still ${queued ? "queued" : "running"}. Wait for its end, or stop it with \`/trimo cancel\`.`,
  complete_is_authors: () => "This pull request belongs to its author, who makes it ready.",
  completed: ({ changed, pull }) => {
    if (!changed) return "No run changed anything: the draft is closed and its branch deleted.";
    return pull
      ? `Completed: pull request #${pull} is ready for review.`
      : "Completed: the pull request is being opened.";
  },
  review_offer: ({ by }) =>
    `❓ ${plain(by, 60)} asks for changes. To have them made, press **Fix it** at the check *Trimo*, or write \`/trimo fix\`; the review and its comments go along.`,
  ci_offer: ({ app, sha, runs }) => {
    const tried = runs ? ` ${count(runs, "run")} of Trimo's own did not fix it.` : "";
    return `❓ ${plain(app, 60)} failed on ${sha.slice(0, 7)}.${tried} To have it fixed, press **Fix it** at the check *Trimo*, or write \`/trimo fix\`; what failed goes along.`;
  },
  question: ({ to, agent, text }) => {
    const login = to && /^[A-Za-z0-9-]+$/.test(to) ? `@${to}, ` : "";
    return `❓ ${login}${code(agent ?? "the agent")} asks:\n\n> ${plain(text, 2_000)}\n\nAnswer with \`/trimo continue …\`.`;
  },
  agent_comment: (reply) => agentCommentWords(reply),
  unheard: ({ by, run, next }) => {
    const what = `Run ${run} ended before ${plain(by, 60)}'s message arrived.`;
    return next === null
      ? `${what} \`/trimo fix\` with the message starts the next run.`
      : `${what} It is now run ${next}.`;
  },
  quota_given_up: ({ run, times }) =>
    `❓ Run ${run} is the ${times}th in a row that its model's service did not let finish, so Trimo does not go on by itself. Use \`/trimo continue\` when it takes requests again.`,
  pull_refused: ({ branch, why }) =>
    `❌ GitHub refuses the pull request for ${code(branch)}: ${plain(why, 300)}`,
  closed_unchanged: () =>
    "There was nothing to change, so this draft is closed and its branch deleted.",
  undone: ({ why }) => {
    const reason =
      why === null
        ? "Trimo failed at it, and the app's log says how"
        : `GitHub refuses what it takes: ${plain(why, 300)}`;
    return `❌ This could not be done. ${reason}. It is tried again every hour for three days.`;
  },
};

/** The words of a reply, in Markdown. */
export function replyBody(reply: Reply): string {
  const say = words[reply.kind] as (reply: Reply) => string;
  return say(reply);
}

function statusWords(pipeline: boolean, runs: StatusRun[]): string {
  if (runs.length > 0) return runs.map((run) => `- ${statusLine(run)}`).join("\n");
  return pipeline
    ? "No run is queued or running here. `/trimo continue` starts the next one."
    : "No run is queued or running here.";
}

function statusLine(run: StatusRun): string {
  const on = run.daemon ? ` on ${code(run.daemon)}` : "";
  if (run.state === "queued") {
    if (!run.position) return `⏳ run ${run.number} is queued`;
    const { where, why } = positionWords(run.position);
    return `⏳ run ${run.number} is queued · ${where}. ${why}`;
  }
  if (run.state === "claimed") return `⏳ run ${run.number} is being prepared${on}`;
  const agent = run.agent ? ` · ${code(run.agent)}` : "";
  const time = run.runningMs === null ? "" : ` · ${duration(run.runningMs)}`;
  const stopping = run.stopping ? " · it is being stopped" : "";
  return `🔄 run ${run.number}${agent}${on} · ${run.stage ?? "preparing"}${time}${stopping}`;
}

function misunderstoodWords(about: ReplyOf<"misunderstood">["about"]): string {
  switch (about.problem) {
    case "empty":
      return `Add what Trimo should do, for example \`/trimo run\`.\n\n${helpTable()}`;
    case "unknown": {
      const what = `There is no command${about.name ? ` \`${about.name}\`` : " of that name"}.`;
      return about.nearest
        ? `${what} Did you mean \`/trimo ${about.nearest}\`?`
        : `${what} These exist:\n\n${helpTable()}`;
    }
    case "option": {
      const example = about.option === "agent" ? "agent=claude" : "image=trimo/base:bookworm";
      return `\`${about.option}=\` needs a plain name, such as \`${example}\`.`;
    }
  }
}

function notHeardWords(because: NotHeard): string {
  switch (because.why) {
    case "stopping":
      return `Run ${because.run} is being stopped`;
    case "ended":
      return `The agent of run ${because.run} has ended and its work is being verified`;
    case "takes_none":
      return `${because.agent ? code(because.agent) : "The agent"} takes no messages while it works`;
    case "nobody":
      return "No agent is working here";
  }
}

/**
 * What an agent asked to have said under its pull request. Its Markdown stays, as a quotation: no line of
 * it is a command or looks like Trimo's own, it calls nobody and closes nothing, and it shows no image,
 * whose address could carry something out.
 */
function agentCommentWords({ run, agent, text }: ReplyOf<"agent_comment">): string {
  const safe = text
    .replace(/[^\P{C}\n\t]/gu, "")
    // Entities would become what is taken out below.
    .replace(/&(?=#|\w+;)/g, "&amp;")
    .replace(/\/(?=trimo)/gi, "/ ")
    .replace(/<(?=[A-Za-z!/?])/g, "&lt;")
    .replace(/!(?=\[)/g, "!\u200b")
    .replace(/@(?=\w)/g, "@\u200b")
    .replace(/\b(close[sd]?|fix(?:e[sd])?|resolve[sd]?)\b/gi, "$1\u200b");
  const by = `<sub>${code(agent ?? "the agent")} says in run ${run}:</sub>`;
  const quoted = cut(safe, commentBytesMax / 2).replace(/^/gm, "> ");
  return `${by}\n\n${quoted}`;
}
