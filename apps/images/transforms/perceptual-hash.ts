const columns = 9
const rows = 8
/** Pixels looked at per cell and direction: enough for a mean, and the cost does not grow with the picture. */
const samples = 16

/**
 * dHash of grey pixels: the picture as 9 by 8 cells, one bit per pair of neighbours in a row, set where it gets brighter;
 * 16 hex digits. Similar pictures differ in few bits. Advisory: never a reason to remove anything.
 */
export function perceptualHash(grey: Uint8Array, width: number, height: number): string {
  let hex = ''
  for (let row = 0; row < rows; row += 1) {
    let bits = 0
    let before = cellMean(grey, width, height, 0, row)
    for (let column = 1; column < columns; column += 1) {
      const here = cellMean(grey, width, height, column, row)
      bits = (bits << 1) | (here > before ? 1 : 0)
      before = here
    }
    hex += bits.toString(16).padStart(2, '0')
  }
  return hex
}

function cellMean(grey: Uint8Array, width: number, height: number, column: number, row: number): number {
  let sum = 0
  for (let y = 0; y < samples; y += 1) {
    const line = Math.floor(((row + (y + 0.5) / samples) * height) / rows) * width
    for (let x = 0; x < samples; x += 1) {
      sum += grey[line + Math.floor(((column + (x + 0.5) / samples) * width) / columns)]!
    }
  }
  return sum
}
