import { cookies } from "next/headers";
import { visit } from "../../../lib/session.js";

export const dynamic = "force-dynamic";

export async function GET() {
  const jar = await cookies();
  const session = await visit(jar.get("session")?.value);
  jar.set("session", session.id, { httpOnly: true, sameSite: "lax" });
  return Response.json({ visits: session.visits });
}
