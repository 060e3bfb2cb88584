import { Claim } from "./claim.ts";
import { Events } from "./event.ts";
import { Hello } from "./hello.ts";
import { Renew } from "./renew.ts";
import { Settle } from "./settle.ts";
import { TokenRequest } from "./token.ts";

/** Everything a daemon sends to the app, by the endpoint it is posted to. */
export const up = {
  hello: Hello,
  claim: Claim,
  renew: Renew,
  events: Events,
  token: TokenRequest,
  settle: Settle,
} as const;
