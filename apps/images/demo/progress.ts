/** Progress of the demo: a bar in a terminal, elsewhere a line at each quarter. */

export interface Progress {
  readonly done: number
  readonly total: number
  /** The catalog is still being read: the total grows. */
  readonly reading: boolean
}

const width = 40

export function openProgress(to: NodeJS.WriteStream): { show(progress: Progress): void; end(): void } {
  return to.isTTY ? bar(to) : quarters(to)
}

function bar(to: NodeJS.WriteStream) {
  let shown = false
  return {
    show({ done, total }: Progress) {
      if (total === 0) return
      const full = Math.round((width * done) / total)
      to.write(`\r${'█'.repeat(full)}${'░'.repeat(width - full)} ${done}/${total} records `)
      shown = true
    },
    end() {
      if (shown) to.write('\n')
    },
  }
}

function quarters(to: NodeJS.WriteStream) {
  let told = 0
  return {
    show({ done, total, reading }: Progress) {
      const quarter = total === 0 || reading ? 0 : Math.floor((4 * done) / total)
      if (quarter > told) to.write(`${done} of ${total} records have ended\n`)
      told = Math.max(told, quarter)
    },
    end() {},
  }
}
