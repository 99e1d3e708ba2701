const columns = 9
const rows = 8
/** Pixels looked at per cell and direction: enough for a mean, and the cost does not grow with the picture. */
const samples = 16

/** Sum of the samples of a cell by which a neighbour must be brighter: one level, so that noise decides nothing. */
const step = samples * samples
/** Pairs of neighbours that must differ in one direction or the other: fewer, and the picture is flat. */
const fewest = 4

/**
 * dHash of grey pixels: the picture as 9 by 8 cells, one bit per pair of neighbours in a row, set where it gets brighter by a
 * level or more; 16 hex digits. Similar pictures differ in few bits. A picture that is flat, whose hash would be that of every
 * other flat one, has none. Advisory: never a reason to remove anything.
 */
export function perceptualHash(grey: Uint8Array, width: number, height: number): string | undefined {
  let hex = ''
  let edges = 0
  for (let row = 0; row < rows; row += 1) {
    let bits = 0
    let before = cellSum(grey, width, height, 0, row)
    for (let column = 1; column < columns; column += 1) {
      const here = cellSum(grey, width, height, column, row)
      bits = (bits << 1) | (here >= before + step ? 1 : 0)
      if (Math.abs(here - before) >= step) edges += 1
      before = here
    }
    hex += bits.toString(16).padStart(2, '0')
  }
  return edges < fewest ? undefined : hex
}

function cellSum(grey: Uint8Array, width: number, height: number, column: number, row: number): number {
  let sum = 0
  for (let y = 0; y < samples; y += 1) {
    const line = Math.floor(((row + (y + 0.5) / samples) * height) / rows) * width
    for (let x = 0; x < samples; x += 1) {
      sum += grey[line + Math.floor(((column + (x + 0.5) / samples) * width) / columns)]!
    }
  }
  return sum
}
