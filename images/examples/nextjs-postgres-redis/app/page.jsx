import { listNotes } from "../lib/notes.js";

export const dynamic = "force-dynamic";

export default async function Page() {
  const { notes } = await listNotes();
  return (
    <main>
      <h1>Notes</h1>
      <ul>
        {notes.map(({ id, text }) => (
          <li key={id}>{text}</li>
        ))}
      </ul>
    </main>
  );
}
