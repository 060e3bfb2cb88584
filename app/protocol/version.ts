/**
 * The version of what crosses the wire between app and daemon, with its history.
 *
 * 1  hello, stream, claim, renew, events, token, settle (Trimo 0.1)
 * 2  events `base` (drift and conflicts), `usage` and `ask`; failure `asked_question`
 * 3  events `service` and `comment`; a token's purpose; failures `disk_limit`, `pids_limit`,
 *    `image_broken`, `image_build_failed` and `image_platform`
 *
 * An app serves a daemon of the same version only; another is told which one to install.
 * `test/app/protocol.test.ts` hashes the schemas: a changed schema without a new line here fails.
 */
export const protocolVersion = 3;
