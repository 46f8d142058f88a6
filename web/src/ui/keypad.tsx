const KEYS: ReadonlyArray<readonly [digit: string, letters: string]> = [
  ["1", ""],
  ["2", "ABC"],
  ["3", "DEF"],
  ["4", "GHI"],
  ["5", "JKL"],
  ["6", "MNO"],
  ["7", "PQRS"],
  ["8", "TUV"],
  ["9", "WXYZ"],
  ["*", ""],
  ["0", "+"],
  ["#", ""],
];
const SPOKEN: Readonly<Record<string, string>> = { "*": "star", "#": "hash" };

export function Keypad({ onPress }: { onPress: (digit: string) => void }) {
  return (
    <div class="keypad" role="group" aria-label="Dial pad">
      {KEYS.map(([digit, letters]) => (
        <button
          key={digit}
          type="button"
          {...(SPOKEN[digit] === undefined ? {} : { "aria-label": SPOKEN[digit] })}
          onClick={() => onPress(digit)}
          onContextMenu={(event) => {
            // A long press, as on mobile phones.
            if (digit !== "0") return;
            event.preventDefault();
            onPress("+");
          }}
        >
          <span class="digit">{digit}</span>
          <span class="letters" aria-hidden="true">
            {letters || "\u00a0"}
          </span>
        </button>
      ))}
    </div>
  );
}
