import type { Comment } from "../objects.ts";
import { bot } from "../state.ts";
import type { Overlay, Route } from "./route.ts";

/** The eyes and hearts under a comment. */
export const reactions: Route = async ({ route, body }, { state }) => {
  const found = /^POST (?:issues|pulls)\/comments\/(\d+)\/reactions$/.exec(route)?.[1];
  if (!found) return null;
  const comment = Number(found);
  const content = String(body.content);
  if (!state.reactions.some((row) => row.comment === comment && row.content === content))
    state.reactions.push({ comment, content });
  return { status: 201, body: { id: comment, content } };
};

export const isNewComment = (route: string): boolean => /^POST issues\/\d+\/comments$/.test(route);

/** Who wrote a comment, which emulate takes for a person's, and how often it was edited. */
export const comments: Overlay = async (answer, { route, holder }, { state }) => {
  if (/^GET issues\/\d+\/comments$/.test(route)) {
    const byWhom = (comment: Comment) =>
      state.byApp.has(comment.id) ? { ...comment, user: bot } : comment;
    return { ...answer, body: (answer.body as Comment[]).map(byWhom) };
  }
  const comment = answer.body as { id: number };
  if (isNewComment(route) && holder.kind === "installation") state.byApp.add(comment.id);
  const edited = Number(/^PATCH issues\/comments\/(\d+)$/.exec(route)?.[1] ?? 0);
  if (edited) state.edits.set(edited, (state.edits.get(edited) ?? 0) + 1);
  return answer;
};
