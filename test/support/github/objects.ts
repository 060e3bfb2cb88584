/** GitHub's objects as the stand-in keeps and shows them. */
export type Json = Record<string, unknown>;
export type CheckRun = {
  id: number;
  repository: string;
  head_sha: string;
  name: string;
  external_id: string;
  status: string;
  conclusion: string | null;
  details_url: string;
  started_at: string | null;
  completed_at: string | null;
  app: { id: number; name: string; slug: string };
  output: { title: string; summary: string; text: string | null; annotations_count: number };
  annotations: Json[];
  actions: { label: string; identifier: string }[];
  /** Every status it had, in order. */
  history: string[];
};
export type Pull = {
  number: number;
  node_id: string;
  title: string;
  body: string | null;
  state: string;
  draft: boolean;
  head: { ref: string; sha: string };
  base: { ref: string; sha: string };
  commits: number;
};
export type Comment = { id: number; body: string; user: { login: string }; edits: number };
