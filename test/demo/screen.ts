/** The demo's output: calm on a terminal, plain lines without one. */
export type Screen = {
  title(name: string, what: string): void;
  ready(what: string, detail: string): void;
  chapter(text: string): void;
  event(seconds: number, text: string): void;
  line(text: string): void;
  problem(text: string): void;
};

export function openScreen(): Screen {
  const colour = process.stdout.isTTY && !process.env.NO_COLOR;
  const paint = (code: string, text: string) => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);
  const print = (text: string) => void process.stdout.write(`${text}\n`);
  return {
    title: (name, what) => print(`\n${paint("1", name)} ${paint("2", `· ${what}`)}\n`),
    ready: (what, detail) => print(`${paint("32", "✔")} ${what.padEnd(22)}  ${detail}`),
    chapter: (text) => print(`\n${paint("36", "●")} ${paint("1", text)}`),
    event: (seconds, text) =>
      print(`  ${paint("2", `${seconds.toFixed(2).padStart(6)} s`)}  ${text}`),
    line: print,
    problem: (text) => print(`${paint("31", "✖")} ${text}`),
  };
}
