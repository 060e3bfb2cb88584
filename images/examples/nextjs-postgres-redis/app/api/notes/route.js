import { addNote, listNotes } from "../../../lib/notes.js";

export const dynamic = "force-dynamic";

export async function GET() {
  return Response.json(await listNotes());
}

export async function POST(request) {
  const { text } = await request.json();
  if (typeof text !== "string" || text.trim() === "")
    return Response.json({ error: "A note needs text." }, { status: 422 });
  return Response.json(await addNote(text.trim()), { status: 201 });
}
