import type { Axis } from "../plot/curves";

export interface PlotChoice {
  axis: Axis;
  smoothing: number; // 0 … 0.99
  log: boolean;
}

interface Props {
  choice: PlotChoice;
  choose: (choice: PlotChoice) => void;
  zoomed: boolean;
  reset: () => void;
}

const AXES: [Axis, string][] = [["step", "Step"], ["epoch", "Epoch"], ["time", "Time"]];

export function PlotControls({ choice, choose, zoomed, reset }: Props) {
  return (
    <div class="controls">
      <div class="choices" role="group" aria-label="Horizontal axis">
        {AXES.map(([axis, name]) => (
          <button key={axis} aria-pressed={choice.axis === axis} onClick={() => choose({ ...choice, axis })}>
            {name}
          </button>
        ))}
      </div>
      <label class="inline">
        Smoothing
        <input
          type="range"
          min="0"
          max="0.99"
          step="0.01"
          value={choice.smoothing}
          onInput={(event) => choose({ ...choice, smoothing: Number(event.currentTarget.value) })}
        />
        <output>{choice.smoothing.toFixed(2)}</output>
      </label>
      <label class="inline">
        <input type="checkbox" checked={choice.log} onChange={(event) => choose({ ...choice, log: event.currentTarget.checked })} />
        Logarithmic
      </label>
      {zoomed && <button onClick={reset}>Show all</button>}
    </div>
  );
}
