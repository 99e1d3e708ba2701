/** The connection `warehouse`, where none of that name is configured: the platform's own database, under the login of apps. */
import type { ConnectionSettings } from '../connectors/connections.ts'
import { withLogin } from '../connectors/postgres/settings.ts'
import { SluiceError } from '../errors.ts'
import type { Database } from '../ports/database.ts'
import { appRole, readAppLogin } from '../store/app-login.ts'

/** @throws SluiceError CONFIGURATION when the platform could not make the role; DATABASE_UNREACHABLE */
export async function warehouseSettings(db: Database, databaseUrl: string): Promise<ConnectionSettings> {
  const login = await readAppLogin(db)
  if (login !== undefined) {
    const url = withLogin(databaseUrl, login.role, '')
    return { kind: 'postgres', url, password: login.password }
  }
  const role = await appRole(db)
  throw new SluiceError(
    'CONFIGURATION',
    `connection warehouse: it is not configured, and the platform may make no login role on its server. Let an administrator run "create role ${role} login password '...'", which the platform gives its rights at its next start, and set SLUICE_CONNECTION_WAREHOUSE to {"kind":"postgres","url":"postgresql://${role}:PASSWORD@HOST/DATABASE"}`,
  )
}
