import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Where the embedded server of a home answers now. @throws Error when it does not run. */
export function embeddedUrl(home: string): string {
  const socketDir = readFileSync(join(home, 'postgres/data/postmaster.pid'), 'utf8').split('\n')[4]!.trim()
  return `postgresql://sluice@/sluice?host=${encodeURIComponent(socketDir)}`
}
