import { raw } from "hono/html";
import type { LoggedEvent } from "../app/event.ts";
import { type RunView, sentence, sessionWords } from "../app/view.ts";
import { duration, failureWords, placeWords, usageWords } from "../app/wording.ts";
import { Age, Page, State } from "./page.tsx";

type Props = { view: RunView; events: LoggedEvent[]; now: number; webUrl: string; over: boolean };

/** One run: where it is, what it did, and its events live. */
export function RunPage({ view, events, now, webUrl, over }: Props) {
  const { run, pipeline, stages, receipts, commits } = view;
  const repository = `${webUrl}/${pipeline.repository}`;
  const words = run.failureCode ? failureWords[run.failureCode] : null;
  return (
    <Page title={`Run ${run.number}`}>
      <h1>{pipeline.title}</h1>
      <p class="row" id="head">
        <State run={run} />
        <span class="soft">
          {[run.agent, run.daemon].filter(Boolean).join(" on ")} {run.image}{" "}
          {usageWords(view.usage).join(", ")}
        </span>
        {view.place ? (
          <span class="soft">
            {placeWords(view.place).where}. {placeWords(view.place).why.replaceAll("`", "")}
          </span>
        ) : null}
        <span class="soft">
          <Age at={run.createdAt} now={now} />
        </span>
      </p>
      <p class="soft">
        <a href={`${repository}/issues/${pipeline.issue}`}>issue #{pipeline.issue}</a>
        {pipeline.pullNumber ? (
          <>
            {" · "}
            <a href={`${repository}/pull/${pipeline.pullNumber}`}>
              pull request #{pipeline.pullNumber}
            </a>
          </>
        ) : null}
        {" · "}
        <code>{pipeline.branch}</code> · {run.trigger} by {run.requestedBy} · attempt {run.attempt}
      </p>
      <ol class="stages" id="stages">
        {stages.map(({ stage, durationMs }) => (
          <li class={durationMs === null && !over ? "now" : ""}>
            {stage} {durationMs === null ? "" : duration(durationMs)}
          </li>
        ))}
      </ol>
      {words ? (
        <>
          <p>
            <strong>{words.title.replaceAll("`", "")}</strong> <code>{run.failureCode}</code>
          </p>
          {run.failureDetail ? <pre>{run.failureDetail}</pre> : null}
          <p class="soft">{words.mend.replaceAll("`", "")}</p>
        </>
      ) : null}
      {receipts.length > 0 ? (
        <>
          <h2>Verified by Trimo</h2>
          <table>
            {receipts.map((receipt) => (
              <tr>
                <td>
                  <code>{receipt.command}</code>
                  {receipt.tail ? <pre>{receipt.tail}</pre> : null}
                </td>
                <td>{receipt.exitCode === 0 ? "✅ passed" : `❌ exit ${receipt.exitCode}`}</td>
                <td>{duration(receipt.durationMs)}</td>
              </tr>
            ))}
          </table>
        </>
      ) : null}
      {view.plan ? (
        <>
          <h2>The agent's plan</h2>
          <ul class="plan">
            {view.plan.map(({ text, done }) => (
              <li>
                {done ? "☑" : "☐"} {text}
              </li>
            ))}
          </ul>
        </>
      ) : null}
      {commits.length > 0 ? (
        <>
          <h2>Commits</h2>
          <table class="narrow-first">
            {commits.map((commit) => (
              <tr>
                <td>
                  <a href={`${repository}/commit/${commit.sha}`}>
                    <code>{commit.sha.slice(0, 7)}</code>
                  </a>
                </td>
                <td>{commit.subject}</td>
              </tr>
            ))}
          </table>
        </>
      ) : null}
      <h2>{run.composed && run.composed !== run.prompt ? "Prompt, as sent" : "Prompt"}</h2>
      {view.notes.length > 0 ? <p class="soft">{view.notes.join(" ")}</p> : null}
      {view.session ? <p class="soft">{sessionWords(view.session)}</p> : null}
      <pre>{run.composed ?? run.prompt}</pre>
      {run.handover && view.session?.from !== "session" ? (
        <details>
          <summary>The written hand-over of the runs before</summary>
          <pre>{run.handover}</pre>
        </details>
      ) : null}
      {run.composed === null ? (
        <p class="soft">What else was said goes along when the run's turn has come.</p>
      ) : null}
      {view.attempts.length > 0 ? <Attempts all={view.attempts} /> : null}
      <h2>Events</h2>
      <ol class="events" id="events" data-after={events.at(-1)?.id ?? 0}>
        {events.map((event) => (
          <li>
            <time datetime={new Date(event.at).toISOString()}>{clockTime(event.at)}</time>
            <span>{sentence(event.type, event.data)}</span>
          </li>
        ))}
      </ol>
      {over ? null : <script>{raw(live(run.id))}</script>}
    </Page>
  );
}

/** Where the agent tried to go, beside its model: each address once. */
function Attempts({ all }: { all: RunView["attempts"] }) {
  return (
    <>
      <h2>Attempts to reach the network</h2>
      <table>
        {all.map(({ host, allowed, reason }) => (
          <tr>
            <td>
              <code>{host}</code>
            </td>
            <td>{allowed ? "let through" : "⛔ kept back"}</td>
            <td class="soft">{reason}</td>
          </tr>
        ))}
      </table>
    </>
  );
}

export const clockTime = (at: number): string => new Date(at).toISOString().slice(11, 19);

/** Adds events as they come; when a stage or the state changes, takes the head from a fresh page. */
function live(runId: string): string {
  return `
const list = document.getElementById("events");
const source = new EventSource("/runs/${runId}/events?after=" + list.dataset.after);
source.addEventListener("fact", (message) => {
  const fact = JSON.parse(message.data);
  const item = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = fact.time;
  const text = document.createElement("span");
  text.textContent = fact.text;
  item.append(time, text);
  list.append(item);
  if (fact.heads) refresh();
});
source.addEventListener("over", () => { source.close(); location.reload(); });
async function refresh() {
  const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
  for (const id of ["head", "stages"]) document.getElementById(id).replaceWith(page.getElementById(id));
}`;
}
