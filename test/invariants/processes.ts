/** Processes that are to be gone. */
import { readFileSync } from 'node:fs'
import type { Invariant } from './breach.ts'

export const processInvariants: readonly Invariant[] = [
  /** 8. Of what has ended no process is left. */
  {
    number: 8,
    when: 'always',
    find: async ({ options: { processes = [] } }) =>
      processes.filter(isAlive).map((pid) => `process ${pid} is alive, and was to be gone`),
  },
]

/** One that has ended and was not waited for yet does nothing any more. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch (thrown) {
    const { code, syscall } = thrown as NodeJS.ErrnoException
    // No such process; or there is no /proc here, and the signal has reached it.
    return syscall === 'kill' ? code !== 'ESRCH' : process.platform !== 'linux'
  }
}
