import { useEffect, useRef, useState } from "preact/hooks";
import { microphoneText } from "../sip/reasons";
import { openMicrophone } from "../state/devices";
import { notify } from "../state/notices";
import { settings } from "../state/settings";
import { Icon } from "./icons";

/** Shows that the microphone hears, while it is asked to. */
export function MicrophoneMeter() {
  const [on, setOn] = useState(false);
  const bar = useRef<HTMLMeterElement>(null);
  const chosen = settings.microphone.value;
  useEffect(() => {
    if (!on) return;
    let stream: MediaStream | null = null;
    let frame = 0;
    let over = false;
    const context = new AudioContext();
    openMicrophone().then(
      (opened) => {
        stream = opened;
        if (over) return opened.getTracks().forEach((track) => track.stop());
        const analyser = new AnalyserNode(context, { fftSize: 1024 });
        context.createMediaStreamSource(opened).connect(analyser);
        const samples = new Float32Array(analyser.fftSize);
        const look = (): void => {
          analyser.getFloatTimeDomainData(samples);
          const power = samples.reduce((sum, one) => sum + one * one, 0) / samples.length;
          if (bar.current) bar.current.value = Math.min(1, Math.sqrt(power) * 5);
          frame = requestAnimationFrame(look);
        };
        look();
      },
      (error: unknown) => {
        notify("error", microphoneText(error));
        setOn(false);
      },
    );
    return () => {
      over = true;
      cancelAnimationFrame(frame);
      stream?.getTracks().forEach((track) => track.stop());
      void context.close();
    };
  }, [on, chosen]);
  return (
    <div class="field">
      <span id="meter-label">Test the microphone</span>
      <span class="with-button">
        <meter ref={bar} min="0" max="1" value="0" aria-labelledby="meter-label" />
        <button type="button" class="secondary" aria-pressed={on} onClick={() => setOn(!on)}>
          <Icon name="mic" size={18} /> {on ? "Stop" : "Test"}
        </button>
      </span>
    </div>
  );
}
