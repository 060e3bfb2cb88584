/** Whether `host:port` is on a list of `name:port` and `*.name:port`. */
export function matchesHost(host: string, port: number, list: string[]): boolean {
  return list.some((entry) => {
    const colon = entry.lastIndexOf(":");
    if (Number(entry.slice(colon + 1)) !== port) return false;
    const name = entry.slice(0, colon);
    return name.startsWith("*.") ? host.endsWith(name.slice(1)) : host === name;
  });
}
