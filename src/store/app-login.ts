/**
 * The login role under which authors' code reaches the tables of apps. It has no right in the platform's schema. Its password is
 * random, made with it, and lies in the platform's own tables: whoever can read it there needs it no more.
 */
import type { Database, Session } from '../ports/database.ts'
import { statement } from '../ports/database.ts'
import { lockMigrations } from './migrate.ts'

export interface AppLogin {
  readonly role: string
  readonly password: string
}

/**
 * `made`, `there`: the role is the platform's · `given`: others made a role of its name, and the platform does not know the
 * password · `refused`: the platform may make no roles on this server.
 */
export type LoginState = 'made' | 'there' | 'given' | 'refused'

const makeStatement = statement<{ state: LoginState }>('apps.make-login', 'select sluice.make_app_login($1) as state')
const grantStatement = statement('apps.grant', 'select sluice.grant_apps()')

/**
 * Makes the role if need be, and gives it what it lacks on the schemas of apps; to be called after every migration. With nothing to
 * do it writes nothing.
 * @param password - Random; it is used when the role is made now.
 */
export function prepareApps(database: Database, password: string): Promise<LoginState> {
  return database.transaction(async (session) => {
    // Two that grant at once would disturb each other in the catalogue.
    await session.query(lockMigrations)
    const [made] = await session.query(makeStatement, [password])
    await session.query(grantStatement)
    return made!.state
  })
}

const readStatement = statement<AppLogin>('apps.login', 'select role, password from sluice.app_login')
const roleStatement = statement<{ role: string }>('apps.role', 'select sluice.app_role() as role')

/** Undefined when the platform has not made the role: then only its name is known, see `appRole`. */
export async function readAppLogin(session: Session): Promise<AppLogin | undefined> {
  const [login] = await session.query(readStatement)
  return login
}

export async function appRole(session: Session): Promise<string> {
  const [row] = await session.query(roleStatement)
  return row!.role
}
