/** Who can be killed, and how. */
import type { House } from './house.ts'
import { type Found, kill, type Role } from './processes.ts'
import type { Randomness } from './randomness.ts'
import type { UserServer } from './user-server.ts'

export const victims = [
  'engine',
  'serving',
  'shard',
  'runner',
  'backend',
  'postmaster',
  'server-stop-fast',
  'server-stop-immediate',
  'supervisor',
  'sluice',
  'everything',
] as const
export type Victim = (typeof victims)[number]

/** Meanings in the help of the command. */
export const victimTexts: Readonly<Record<Victim, string>> = {
  engine: 'the engine process',
  serving: 'the process that serves the API',
  shard: 'a shard process',
  runner: 'a runner',
  backend: 'one session of PostgreSQL, after which the server restarts all of them',
  postmaster: 'the main process of PostgreSQL',
  'server-stop-fast': 'the server of the user is stopped (fast) and started again',
  'server-stop-immediate': 'the server of the user is stopped (immediate) and started again',
  supervisor: 'the supervisor alone; then it is started again, as a user would',
  sluice: 'the supervisor and every process of Sluice but PostgreSQL, at once',
  everything: 'every process of the home at once, PostgreSQL with it',
}

/** Which there are for an embedded server, or a server of a user's that this command starts, or one that it was given. */
export function victimsFor(server: 'embedded' | 'own' | 'given'): readonly Victim[] {
  const stops: readonly Victim[] = ['server-stop-fast', 'server-stop-immediate']
  if (server === 'embedded') return victims.filter((victim) => !stops.includes(victim))
  if (server === 'own') return victims.filter((victim) => victim !== 'everything')
  return victims.filter((victim) => !['backend', 'postmaster', 'everything', ...stops].includes(victim))
}

export interface Blow {
  readonly signal: NodeJS.Signals
  readonly pids: readonly number[]
}

/** What is struck, one or many processes at once. Empty when there is no such process at this moment. */
export function blowOf(
  victim: Victim,
  processes: readonly Found[],
  random: Randomness,
  house: House,
  server: UserServer | undefined,
): Blow {
  const pidsOf = (...wanted: Role[]) => processes.filter(({ role }) => wanted.includes(role)).map(({ pid }) => pid)
  const one = (pids: readonly number[]): Blow => ({
    signal: 'SIGKILL',
    pids: pids.length === 0 ? [] : [random.pick(pids)],
  })
  switch (victim) {
    case 'backend':
      return one(server === undefined ? pidsOf('backend') : server.backends())
    case 'postmaster':
      return one(server === undefined ? pidsOf('postmaster') : [server.pid])
    case 'server-stop-fast':
      return { signal: 'SIGINT', pids: [server!.pid] }
    case 'server-stop-immediate':
      return { signal: 'SIGQUIT', pids: [server!.pid] }
    case 'supervisor':
      return one(house.supervisor === undefined ? [] : [house.supervisor])
    case 'sluice':
      return { signal: 'SIGKILL', pids: pidsOf('supervisor', 'engine', 'serving', 'shard', 'runner') }
    case 'everything':
      return { signal: 'SIGKILL', pids: processes.map(({ pid }) => pid) }
    default:
      return one(pidsOf(victim))
  }
}

/** Gives how many processes were struck. */
export function strike({ signal, pids }: Blow): number {
  return pids.filter((pid) => kill(pid, signal)).length
}
