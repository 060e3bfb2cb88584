/** A source of work in trimo.yml that fires at set times. */
export type Schedule = {
  schedule: string;
  query: string;
  most: number;
  agent: string | null;
};
