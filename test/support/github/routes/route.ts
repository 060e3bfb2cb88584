import type { Deliveries } from "../deliveries.ts";
import type { Json, Pull } from "../objects.ts";
import type { Holder, State } from "../state.ts";

/** What the routes answer from, beside emulate. */
export type World = {
  state: State;
  url: string;
  deliveries: Deliveries;
  /** Asks this GitHub as a person. */
  api(login: string, method: string, path: string, body?: unknown): Promise<Json>;
  pulls(fullName: string, which?: "open" | "all"): Promise<Pull[]>;
};

export type Answer = { status: number; body: unknown; headers?: Record<string, string> };

/** A request of the API. */
export type Call = {
  /** Below `/api/v3`. */
  path: string;
  /** `owner/name`, and `METHOD path` below it; empty where the path is not a repository's. */
  fullName: string;
  route: string;
  body: Json;
  query: URLSearchParams;
  holder: Holder;
};

/** Answers what it knows; null: another route, or emulate, does. */
export type Route = (call: Call, world: World) => Promise<Answer | null>;

/** Adds to emulate's answer what only git and the front know. */
export type Overlay = (answer: Answer, call: Call, world: World) => Promise<Answer>;

export const ok = (body: unknown): Answer => ({ status: 200, body });
export const notFound: Answer = { status: 404, body: { message: "Not Found" } };
export const unprocessable = (message: string): Answer => ({ status: 422, body: { message } });
