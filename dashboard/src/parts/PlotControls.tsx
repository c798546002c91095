import type { Axis } from "../plot/curves";

export interface PlotChoice {
  axis: Axis;
  smoothing: number; // 0 … 0.99
  log: boolean;
  cut: boolean; // outliers lie beyond the edge of the plot
}

interface Props {
  choice: PlotChoice;
  choose: (choice: PlotChoice) => void;
  zoomed: boolean;
  reset: () => void;
}

export const FIRST_CHOICE: PlotChoice = { axis: "step", smoothing: 0.6, log: false, cut: true };
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
      <label class="inline" title="Few values that are far from all others lie beyond the edge, where an arrow tells of them">
        <input type="checkbox" checked={choice.cut} onChange={(event) => choose({ ...choice, cut: event.currentTarget.checked })} />
        Cut outliers
      </label>
      {zoomed && <button onClick={reset}>Show all</button>}
    </div>
  );
}
