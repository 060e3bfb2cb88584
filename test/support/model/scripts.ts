/** A tool's call, in words that each dialect puts into the tools its agent has. */
export type Call =
  | { shell: string }
  | { write: { path: string; text: string } }
  | { plan: { text: string; done: boolean }[] };
type Step = {
  text: string;
  call?: Call;
  /** The model will not do it. */
  refusal?: boolean;
  /** Between two pieces of the answer, in milliseconds. */
  paceMs?: number;
};
export type Script = Step[];

const commit = (file: string, message: string) =>
  `printf '%s\\n' 'Hello from the scripted model.' > ${file} && git add ${file} && git commit -q -m '${message}' && git log --oneline | head -1`;

/** By the name in `[[name]]`; a step an answer. The last one ends the turn. */
export const scripts: Record<string, Script> = {
  plain: [{ text: "ok" }],
  hello: [
    {
      text: "I will create HELLO.md and commit it.",
      call: { shell: commit("HELLO.md", "Add HELLO.md") },
    },
    { text: "Done: HELLO.md created and committed." },
  ],
  follow: [
    {
      text: "Continuing with the earlier context.",
      call: { shell: commit("MORE.md", "Add MORE.md") },
    },
    { text: "Done: MORE.md as well." },
  ],
  plan: [
    {
      text: "First a plan.",
      call: {
        plan: [
          { text: "reproduce the off-by-one", done: true },
          { text: "fix formatDate", done: false },
        ],
      },
    },
    { text: "Now the file.", call: { write: { path: "PLAN.md", text: "one\ntwo\nthree\n" } } },
    { text: "Committing.", call: { shell: "git add -A && git commit -q -m 'Add PLAN.md'" } },
    { text: "Done with the plan." },
  ],
  slow: [
    { text: "Sleeping.", call: { shell: "echo begun > SLOW && sleep 300" } },
    { text: "Slept." },
  ],
  wait: [
    { text: "Waiting a moment.", call: { shell: "sleep 12" } },
    { text: "Waited.", call: { shell: commit("WAITED.md", "Add WAITED.md") } },
    { text: "Done waiting." },
  ],
  greedy: [
    {
      text: "Filling memory.",
      call: {
        shell:
          "/opt/trimo/node/bin/node -e 'const a=[];for(;;)a.push(Buffer.alloc(5e7,1))'; kill -9 $PPID; kill -9 0",
      },
    },
    { text: "That did not work." },
  ],
  loud: [
    {
      text: "Printing.",
      call: { shell: "head -c 3000000 /dev/zero | tr '\\0' 'x'; printf '\\033[31mred\\377\\n'" },
    },
    { text: "Printed." },
  ],
  outside: [
    {
      text: "Trying to leave.",
      call: {
        shell:
          "curl -sS -m 5 https://example.com/ ; curl -sS -m 5 http://127.0.0.1:3128/model/other/v1/messages -d '{}'; curl -sS -m 5 http://127.0.0.1:3128/model/$AGENT/v1/files; env; cat /proc/self/environ | tr '\\0' '\\n'",
      },
    },
    { text: "Nothing got out.", call: { shell: commit("OUT.md", "Add OUT.md") } },
    { text: "Done." },
  ],
  ask: [{ text: "I cannot know this.\n\n::ask:: Should the old endpoint stay for a release?" }],
  refuse: [{ text: "I cannot help with that.", refusal: true }],
  nothing: [{ text: "Nothing needs to change here." }],
  forever: [{ text: "Again.", call: { shell: "true" } }],
};
