import type { EmitterWebhookEvent } from "@octokit/webhooks";
import type { Logger } from "pino";
import { Probot, ProbotOctokit } from "probot";
import type { Clock } from "../protocol/clock.ts";
import { type Api, type Connect, createApi, newestRows } from "./api.ts";
import { handlerError } from "./error.ts";
import { createInstallation, type Installation } from "./installation.ts";
import type { Author, DeliveryAttempt } from "./objects.ts";

export type { Probot } from "probot";

/** How the App reaches GitHub. */
export type GitHubSettings = {
  appId: number;
  /** In PEM. */
  privateKey: string;
  webhookSecret: string;
  /** GitHub's REST API, without a slash at the end. */
  apiUrl: string;
  /** GitHub's web pages, for links. */
  webUrl: string;
};

/** GitHub, as the App sees it. Every method that asks GitHub rejects with GitHubError. */
export type GitHub = {
  /** The App's number. */
  appId: number;
  /** Every installation of the App. */
  installations(): Promise<{ id: number; account: string; suspended: boolean }[]>;
  /** The App's own login and mail address, under which its commits are made. */
  author(): Promise<Author>;
  installation(id: number): Installation;
  /** GitHub's attempts to deliver webhooks since a time (milliseconds since 1970), the newest first. */
  deliveries(since: number): Promise<DeliveryAttempt[]>;
  /** Asks GitHub to deliver a webhook again, by the id of an attempt. */
  redeliver(id: number): Promise<void>;
  /** Whether the signature of a delivery's raw bytes is the webhook secret's. */
  verify(body: string, signature: string): Promise<boolean>;
  /** Loads a Probot app function: what it registers hears every delivery that `receive` is given. */
  load(app: (probot: Probot) => void): Promise<void>;
  /** Hands a delivery to the loaded handlers; rejects with what one of them rejects with. */
  receive(delivery: { guid: string; event: string; payload: unknown }): Promise<void>;
};

/** The most time one request may take, in milliseconds. */
const requestMsMax = 30_000;
/** The most installations that are read. */
const installationsMax = 1_000;

/** Connects to GitHub; nothing is asked of it yet. */
export function createGitHub(settings: GitHubSettings, clock: Clock, log: Logger): GitHub {
  const probot = createProbot(settings, log);
  const connect: Connect = (installation) => probot.auth(installation);
  const app = createApi(connect, clock, null);
  const author = once(() => readAuthor(app, settings));
  const { appId } = settings;
  return {
    appId,
    author,
    installations: () => listInstallations(app),
    installation: (id) =>
      createInstallation({ id, appId, api: createApi(connect, clock, id), app, author }),
    deliveries: (since) => listDeliveries(app, since),
    redeliver: (id) =>
      app(async (o) => {
        const endpoint = "POST /app/hook/deliveries/{delivery_id}/attempts";
        await o.request(endpoint, { delivery_id: id });
      }),
    async verify(body, signature) {
      await probot.ready();
      return await probot.webhooks.verify(body, signature);
    },
    load: (register) => probot.load((loaded: Probot) => register(loaded)),
    async receive({ guid, event, payload }) {
      try {
        await probot.receive({ id: guid, name: event, payload } as EmitterWebhookEvent);
      } catch (error) {
        throw handlerError(error);
      }
    },
  };
}

function createProbot(settings: GitHubSettings, log: Logger): Probot {
  return new Probot({
    appId: settings.appId,
    privateKey: settings.privateKey,
    secret: settings.webhookSecret,
    baseUrl: settings.apiUrl,
    log: log as never,
    // No retries: a 502 may have had its effect, and only the reports know to look first. No
    // throttling plugin: it waits 3 s before each comment; reports/pace.ts paces all writes itself.
    Octokit: ProbotOctokit.defaults((options: object) => ({
      ...options,
      retry: { enabled: false },
      throttle: { enabled: false },
      request: { fetch: fetchInTime },
    })) as typeof ProbotOctokit,
  });
}

/** Asked for once, and again after a failure. */
function once<T>(ask: () => Promise<T>): () => Promise<T> {
  let known: Promise<T> | null = null;
  return () => {
    known ??= ask().catch((error) => {
      known = null;
      throw error;
    });
    return known;
  };
}

/** A connection that has gone silent must not hold up every other workspace. */
function fetchInTime(url: string, options: RequestInit = {}): Promise<Response> {
  const limit = AbortSignal.timeout(requestMsMax);
  const signal = options.signal ? AbortSignal.any([options.signal, limit]) : limit;
  return fetch(url, { ...options, signal });
}

async function readAuthor(app: Api, { appId, webUrl }: GitHubSettings): Promise<Author> {
  const { data } = await app((o) => o.request("GET /app"));
  const slug = data?.slug ?? "trimo";
  const host = new URL(webUrl).host;
  return { name: `${slug}[bot]`, email: `${appId}+${slug}[bot]@users.noreply.${host}` };
}

async function listInstallations(app: Api) {
  return await app(async (o) => {
    const pages = o.paginate.iterator(o.rest.apps.listInstallations, { per_page: 100 });
    return (await newestRows(pages, installationsMax)).map((row) => ({
      id: row.id,
      account: (row.account && "login" in row.account ? row.account.login : "") ?? "",
      suspended: row.suspended_at !== null,
    }));
  });
}

async function listDeliveries(app: Api, since: number): Promise<DeliveryAttempt[]> {
  return await app(async (o) => {
    const found: DeliveryAttempt[] = [];
    const pages = o.paginate.iterator("GET /app/hook/deliveries", { per_page: 100 });
    for await (const page of pages) {
      for (const row of page.data as DeliveryRow[]) {
        const deliveredAt = Date.parse(row.delivered_at);
        if (deliveredAt < since) return found;
        found.push({ id: row.id, guid: row.guid, deliveredAt, status: row.status_code });
      }
    }
    return found;
  });
}
type DeliveryRow = { id: number; guid: string; delivered_at: string; status_code: number };
