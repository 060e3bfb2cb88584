import { ClaimAnswer } from "./claim.ts";
import { EventsAnswer } from "./event.ts";
import { HelloAnswer } from "./hello.ts";
import { Refusal } from "./refusal.ts";
import { RenewAnswer } from "./renew.ts";
import { SettleAnswer } from "./settle.ts";
import { StreamMessage } from "./stream.ts";
import { TokenAnswer } from "./token.ts";

/** Everything the app sends to a daemon: the answer of each endpoint, its refusals, and the stream's messages. */
export const down = {
  hello: HelloAnswer,
  claim: ClaimAnswer,
  renew: RenewAnswer,
  events: EventsAnswer,
  token: TokenAnswer,
  settle: SettleAnswer,
  refusal: Refusal,
  stream: StreamMessage,
} as const;
