import { awayMs } from "../app/line.ts";
import { duration } from "../app/wording.ts";
import { Age, Page, State } from "./page.tsx";
import type { Intent, Machine, PipelineRow } from "./queries.ts";

type Props = {
  rows: PipelineRow[];
  machines: Machine[];
  intents: Intent[];
  now: number;
  webUrl: string;
};

/** Pipelines, newest first, with their runs; and the machines. */
export function Home({ rows, machines, intents, now, webUrl }: Props) {
  return (
    <Page title="Pipelines">
      <h2>Machines</h2>
      {machines.length === 0 ? (
        <p class="empty">
          No machine is enrolled: <code>trimo enroll NAME</code> prints a daemon's token.
        </p>
      ) : (
        <div class="machines">
          {machines.map((machine) => (
            <MachineState machine={machine} now={now} />
          ))}
        </div>
      )}
      <h2>Pipelines</h2>
      {rows.length === 0 ? (
        <p class="empty">
          Nothing yet: put the label <code>trimo</code> on an issue.
        </p>
      ) : (
        <ul class="list">
          {rows.map((row) => (
            <PipelineItem row={row} now={now} webUrl={webUrl} />
          ))}
        </ul>
      )}
      {intents.length > 0 ? (
        <>
          <h2>Wanted lately</h2>
          <ul class="list">
            {intents.map((intent) => (
              <IntentItem intent={intent} now={now} webUrl={webUrl} />
            ))}
          </ul>
        </>
      ) : null}
    </Page>
  );
}

/** Who wanted what, and what came of it. */
function IntentItem({ intent, now, webUrl }: { intent: Intent; now: number; webUrl: string }) {
  const { repository, issue, sender, reason, outcome, runId } = intent;
  const where = issue > 0 ? `${repository}#${issue}` : repository;
  const link = `${webUrl}/${repository}${issue > 0 ? `/issues/${issue}` : ""}`;
  return (
    <li class="row">
      <span class="grow">
        {sender}: {reason}
      </span>
      <span class="soft">{runId ? <a href={`/runs/${runId}`}>{outcome}</a> : outcome}</span>
      <a href={link}>{where}</a>
      <span class="soft">
        <Age at={intent.at} now={now} />
      </span>
    </li>
  );
}

function MachineState({ machine, now }: { machine: Machine; now: number }) {
  const away = !machine.seenAt || now - machine.seenAt > awayMs;
  const state = away
    ? machine.seenAt
      ? `away for ${duration(now - machine.seenAt)}`
      : "never seen"
    : `${machine.busy} of ${machine.slots} slots busy`;
  return (
    <span>
      <strong>{machine.name}</strong> <span class="soft">{state}</span>
    </span>
  );
}

function PipelineItem({ row, now, webUrl }: { row: PipelineRow; now: number; webUrl: string }) {
  const { pipeline, runs } = row;
  const repository = `${webUrl}/${pipeline.repository}`;
  return (
    <li>
      <div class="row">
        <span class="grow">
          <a class="title" href={`${repository}/issues/${pipeline.issue}`}>
            #{pipeline.issue} {pipeline.title}
          </a>
        </span>
        {pipeline.pullNumber ? (
          <a href={`${repository}/pull/${pipeline.pullNumber}`}>PR #{pipeline.pullNumber}</a>
        ) : null}
        <span class="soft">{pipeline.repository}</span>
      </div>
      <ul class="runs">
        {runs.map((run) => (
          <li class="row">
            <a href={`/runs/${run.id}`}>Run {run.number}</a>
            <State run={run} />
            <span class="soft grow">
              {[run.agent, run.daemon].filter(Boolean).join(" on ")} · {run.trigger} ·{" "}
              <Age at={run.createdAt} now={now} />
            </span>
          </li>
        ))}
      </ul>
    </li>
  );
}
