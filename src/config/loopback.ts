/** Whether a URL or `host:port` names this machine only: `localhost`, 127.0.0.0/8 or ::1. No name is looked up. */
export function isLoopback(address: string): boolean {
  const host = hostOf(address);
  if (host === null) return false;
  return host === 'localhost' || host === '[::1]' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

function hostOf(address: string): string | null {
  try {
    return new URL(address.includes('://') ? address : `tcp://${address}`).hostname.toLowerCase();
  } catch {
    return null;
  }
}
