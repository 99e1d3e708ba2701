import { Presets, SingleBar } from 'cli-progress'
import type { ProgressBar } from '../sdk/command.ts'

/** A bar on standard error, which must be a terminal. */
export function openBar(title: string): ProgressBar {
  const bar = new SingleBar(
    {
      format: `${title} {bar} {value}/{total} {text}`,
      stream: process.stderr,
      fps: 10,
      hideCursor: true,
      gracefulExit: false,
    },
    Presets.shades_classic,
  )
  let started = false
  return {
    update(done, total, text = '') {
      if (!started) bar.start(total, done, { text })
      started = true
      bar.setTotal(total)
      bar.update(done, { text })
    },
    stop() {
      if (started) bar.stop()
    },
  }
}
