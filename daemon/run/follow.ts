import { aborted } from "../../app/protocol/clock.ts";
import { RunningState } from "../../app/protocol/running-state.ts";
import { places } from "../../images/base/task.ts";
import { type Gateway, openGateway } from "../gateway/gateway.ts";
import { openTunnel } from "../gateway/tunnel.ts";
import { cleanEnd } from "../redact.ts";
import { Journal } from "./journal.ts";
import { blank, type Outcome } from "./outcome.ts";
import { Output } from "./output.ts";
import { tailChars, type Watched } from "./watched.ts";

/** Beyond the container's own deadline: then it is ended from outside. */
const lateMs = 2 * 60_000;
/** How long a stopped container may take to commit what is there. */
const stopMsMax = 60_000;
/** And one whose lease is about to end: then somebody else may begin. */
const lostStopMsMax = 12_000;
/** Between two tries to open the tunnel, and after one that broke. */
const tunnelRetry = { baseMs: 50, mostMs: 2_000 };
const tunnelPauseMs = 100;

const unsavedWords =
  "The container could not hand its work to the daemon within `away_minutes`, and ended.";

/**
 * Follows a container to its end: its journal, its output, and its pushes, through the tunnel; from
 * where an earlier daemon stopped, when there was one.
 */
export async function follow(watched: Watched): Promise<Outcome> {
  const { engine, container, clock, plan } = watched;
  const { stop, abandon, leave } = watched.signals;
  const outcome = blank();
  const done = new AbortController();
  const journal = new Journal(watched, outcome);
  const output = new Output(watched);
  const late = new AbortController();
  let agentIsLate = false;
  const watchDeadline = async () => {
    await clock.sleep(plan.minutes * 60_000 + lateMs, done.signal);
    agentIsLate = outcome.agent === null && !done.signal.aborted;
    // An agent that was in time: what comes after it may wait for this daemon.
    if (outcome.agent) await clock.sleep(plan.awayMs, done.signal);
    // Not when it is over: the sleeps end with it.
    if (!done.signal.aborted) late.abort();
  };
  void watchDeadline();
  // The daemon that leaves stops nothing: the container goes on, and the next daemon finds it.
  const asked = AbortSignal.any([stop, abandon, late.signal]);
  const ask = () => {
    if (done.signal.aborted || leave.aborted) return;
    engine
      .askToStop(container)
      .catch((error) => watched.log.warn({ err: error }, "could not ask the container to stop"));
  };
  asked.addEventListener("abort", ask, { once: true });
  abandon.addEventListener("abort", ask, { once: true });
  if (asked.aborted) ask();
  const gone = engine.waitForEnd(container);
  try {
    const tunnel = keepTunnel(watched, journal, output, done.signal);
    const patience = stopped(watched, asked, done.signal);
    await Promise.race([tunnel, gone, patience]);
    done.abort();
    await tunnel;
    if (!journal.ended || !output.whole) await readRest(watched, journal, output);
  } finally {
    done.abort();
    asked.removeEventListener("abort", ask);
    abandon.removeEventListener("abort", ask);
  }
  watched.meter.flush();
  const state = await engine.stateOf(container);
  outcome.outOfMemory = state?.outOfMemory ?? false;
  const unsaved = journal.ended && outcome.agentBegan && !outcome.pushed;
  outcome.died = !journal.ended || unsaved;
  // One that is gone takes its journal with it: there may be work on its volume.
  outcome.began = journal.began || watched.outbox.mark.journal > 0 || state === null;
  outcome.tail = output.tail();
  if (outcome.died)
    outcome.tail = cleanEnd(`${outcome.tail}\n${await engine.logsOf(container)}`, tailChars);
  if (unsaved) {
    // It waited for its daemon and ended in vain: what it left is on its volume.
    const why = `${unsavedWords}\n${outcome.failed?.detail ?? ""}`;
    outcome.tail = cleanEnd(`${outcome.tail}\n${why}`, tailChars);
    outcome.failed = null;
  }
  // Stopped from here, since its own deadline had passed without effect.
  if (agentIsLate && outcome.agent) outcome.agent.stopReason ??= "time";
  if (outcome.agent) outcome.agentProblem = watched.reader.end(outcome.agent);
  return outcome;
}

/** Resolves when a container that was asked to stop has had its time. */
async function stopped(
  { engine, signals, clock, container }: Watched,
  asked: AbortSignal,
  done: AbortSignal,
) {
  await aborted(AbortSignal.any([asked, signals.leave, done]));
  if (done.aborted || signals.leave.aborted) return;
  await clock.sleep(signals.abandon.aborted ? lostStopMsMax : stopMsMax, done);
  // It ended by itself meanwhile, or Docker is away: what follows finds out.
  if (!done.aborted) await engine.kill(container).catch(() => {});
}

/** Opens the tunnel, and again when it breaks while the container lives, until the journal's end. */
async function keepTunnel(watched: Watched, journal: Journal, output: Output, done: AbortSignal) {
  const { engine, container, endpoints, plan, config, pusher, clock, log } = watched;
  const rules = {
    mode: config.egress.mode,
    machine: config.egress.allow,
    repository: plan.allow,
    forge: new URL(config.github).hostname,
  };
  const on = { pushed: () => pusher.nudge(), connection: watched.connection };
  const life = new RunningState(clock, done);
  let ahead = watched.carrier;
  while (life.running && !journal.ended) {
    let gateway: Gateway;
    try {
      const carrier = (await ahead) ?? (await openTunnel(engine, container));
      gateway = openGateway(carrier, endpoints, rules, on);
    } catch (error) {
      if (life.failures > 0) log.warn({ err: error }, "the tunnel could not be opened");
      const state = await engine.stateOf(container).catch(() => null);
      if (!state?.running) return;
      await life.backOff(tunnelRetry);
      continue;
    } finally {
      ahead = null;
    }
    const broken = new AbortController();
    void gateway.closed.then(() => broken.abort());
    const ends = AbortSignal.any([done, broken.signal]);
    try {
      await Promise.all([
        journal.follow(gateway, ends),
        output.follow(gateway, ends, journal.over),
      ]);
      if (journal.ended && !broken.signal.aborted) await output.rest(gateway, broken.signal);
    } finally {
      gateway.close();
    }
    if (!journal.ended) await life.sleep(tunnelPauseMs);
  }
}

/** From a container that has stopped: what it wrote and nobody had read. */
async function readRest({ engine, container, signals }: Watched, journal: Journal, output: Output) {
  if (signals.over.aborted) return;
  const lines = await engine.readFile(container, places.journal);
  await journal.takeAll(lines, (path) => engine.readFile(container, path));
  output.take((await engine.readFile(container, places.output)).subarray(output.offset));
  output.finish();
}
