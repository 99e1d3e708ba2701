import type { Config } from '../app/config.ts'
import type { Database } from '../ports/database.ts'
import type { DatabaseOptions } from '../postgres/pool.ts'

/** The platform's database: that of `SLUICE_DATABASE_URL`, else the embedded server, started if it does not run. */
export async function openPlatformDatabase(
  { home, databaseUrl }: Config,
  wishes: Pick<Partial<DatabaseOptions>, 'max' | 'idleInTransactionMs' | 'answerTimeoutMs'> = {},
): Promise<{ database: Database; close(): Promise<void> }> {
  const { openDatabase } = await import('../postgres/pool.ts')
  const common = { applicationName: 'sluice cli', max: 1, connectTimeoutMs: 5_000, ...wishes }
  if (databaseUrl !== undefined) {
    const database = openDatabase({ ...common, url: databaseUrl })
    return { database, close: () => database.close() }
  }
  const { startEmbedded } = await import('../postgres/embedded.ts')
  const server = await startEmbedded({ home })
  const { socketDir, user } = server
  const database = openDatabase({ ...common, socketDir, user, database: server.database })
  return {
    database,
    async close() {
      await database.close()
      await server.stop()
    },
  }
}
