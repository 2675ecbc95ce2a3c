"""Makes a person's voice with a given course of arousal and, faintly, of valence: babble, not words.

A train of glottal pulses and breath noise (the source) is shaped by formants and a spectral slope (the
filter), frame by frame in the frequency domain. Arousal raises pitch and syllable rate relative to the
speaker's own, makes the spectrum brighter and the pulses less regular. The power of every frame is
normalised before the syllables' own random loudness, so loudness tells nothing about arousal.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from va.data.synthetic.affect import Floats, inside, smooth
from va.data.synthetic.person import Person, VoiceTraits

_FRAMES_HZ: Final = 100
_BAND_HZ: Final = 7500.0
"""Nothing but a noise floor above: what is in the sound survives 16 kHz sampling and an AAC codec."""
_VOWELS: Final = np.array(
    [[730, 1090, 2440], [270, 2290, 3010], [300, 870, 2240], [530, 1840, 2480], [570, 840, 2410], [490, 1350, 1690]],
    dtype=np.float64,
)
"""First three formants of six vowels, Hz: rounded averages for adult speakers from textbook phonetics."""
_BANDWIDTH_HZ: Final = np.array([90.0, 110.0, 160.0, 250.0])


@dataclass(frozen=True, eq=False)
class _Speech:
    """Course of the voice, one value per 10 ms frame."""

    loudness: Floats
    friction: Floats
    friction_hz: Floats
    pitch_hz: Floats
    formants_hz: Floats
    slope_db: Floats
    jitter: Floats


def _phrases(rng: np.random.Generator, seconds: float) -> list[tuple[float, float]]:
    phrases = []
    start_s = -rng.uniform(0.0, 2.0)
    while start_s < seconds:
        # In seconds, not syllables: else fast speech would pause more often and loudness would betray arousal.
        end_s = start_s + rng.uniform(1.2, 3.5)
        phrases.append((start_s, end_s))
        start_s = end_s + rng.uniform(0.2, 0.55)
    return phrases


def _plan_syllables(
    rng: np.random.Generator, *, voice: VoiceTraits, arousal: Floats, seconds: float
) -> list[tuple[float, float, float]]:
    """Place syllables: (start_s, length_s, part of the phrase passed)."""
    syllables = []
    for first_s, last_s in _phrases(rng, seconds):
        start_s = first_s
        while start_s < last_s:
            frame = min(max(int(start_s * _FRAMES_HZ), 0), len(arousal) - 1)
            rate_hz = voice.syllables_hz * 2 ** (0.5 * arousal[frame])
            length_s = rng.uniform(0.8, 1.25) / rate_hz
            syllables.append((start_s, length_s, (start_s - first_s) / (last_s - first_s)))
            start_s += length_s
    return syllables


def _speak(rng: np.random.Generator, *, voice: VoiceTraits, affect: Floats, seconds: float) -> _Speech:
    """Lay out the whole course of the voice; affect is [M, 2] at 100 Hz."""
    valence, arousal = affect[:, 0], affect[:, 1]
    count = len(affect)
    time_s = np.arange(count) / _FRAMES_HZ
    loudness, friction = np.zeros(count), np.zeros(count)
    friction_hz, accent = np.full(count, 4000.0), np.zeros(count)
    formants = np.tile(_VOWELS.mean(axis=0), (count, 1))
    for start_s, length_s, passed in _plan_syllables(rng, voice=voice, arousal=arousal, seconds=seconds):
        level = 10 ** (rng.normal(0, 2.0) / 20)
        vowel = _VOWELS[rng.integers(len(_VOWELS))]
        tone = voice.accent_semitones * rng.normal(0, 1) + 1.5 * (0.5 - passed)
        hiss, hiss_hz = rng.uniform(0, 0.35), rng.uniform(3000, 6000)
        first, last = max(int(start_s * _FRAMES_HZ), 0), int((start_s + length_s) * _FRAMES_HZ) + 1
        span = slice(first, min(last, count))
        part = (time_s[span] - start_s) / length_s
        loudness[span] = level * np.sin(np.pi * np.clip(0.15 + 0.85 * part, 0, 1)) ** 0.7
        friction[span] = level * hiss * (part < 0.25)
        friction_hz[span], accent[span], formants[span] = hiss_hz, tone, vowel
    kernel = np.hanning(9)[1:-1] / np.hanning(9).sum()
    glide = np.stack([np.convolve(np.pad(f, 3, mode="edge"), kernel, mode="valid") for f in formants.T], axis=1)
    wander = smooth(rng, shortest_s=0.6, longest_s=4.0)(time_s)
    semitones = 4.5 * arousal + np.convolve(np.pad(accent, 3, mode="edge"), kernel, mode="valid") + 0.4 * wander
    # The mouth's shape wanders more than valence moves it: a faint cue, which no model can average out.
    spread = voice.tract * (1 + 0.02 * valence + 0.03 * smooth(rng, shortest_s=4.0, longest_s=30.0)(time_s))
    return _Speech(
        loudness=loudness,
        friction=friction,
        friction_hz=friction_hz,
        pitch_hz=voice.pitch_hz * 2 ** (semitones / 12),
        formants_hz=np.concatenate([glide, np.full((count, 1), 3600.0)], axis=1) * spread[:, None],
        slope_db=-8.5 + voice.tilt_db + 2.2 * arousal + 0.5 * smooth(rng, shortest_s=2.0, longest_s=10.0)(time_s),
        jitter=0.007 * 2 ** (1.1 * arousal),
    )


def _pulses(rng: np.random.Generator, *, speech: _Speech, samples: int, rate_hz: int) -> NDArray[np.float32]:
    """Make a pulse train of constant power with the given pitch and irregularity."""
    frames = np.arange(len(speech.pitch_hz)) * (rate_hz / _FRAMES_HZ)
    pitch = np.interp(np.arange(samples), frames, speech.pitch_hz)
    phase = np.cumsum(pitch / rate_hz)
    where = np.flatnonzero(np.diff(np.floor(phase)) > 0)
    period = rate_hz / pitch[where]
    position = where + (np.ceil(phase[where]) - phase[where]) * period
    frame = np.minimum((where * _FRAMES_HZ) // rate_hz, len(speech.jitter) - 1)
    position = position + rng.normal(0, 1, len(where)) * speech.jitter[frame] * period
    height = np.sqrt(period) * (1 + 3 * speech.jitter[frame] * rng.normal(0, 1, len(where)))
    # A windowed sinc places each pulse between samples; a bare impulse would add jitter of its own.
    taps = np.arange(-7, 9)
    base = np.floor(position).astype(np.int64)
    distance = taps[None, :] - (position - base)[:, None]
    shape = np.sinc(distance) * np.cos(np.pi * distance / 18) ** 2 * height[:, None]
    index = base[:, None] + taps[None, :]
    inner = (index >= 0) & (index < samples)
    return np.bincount(index[inner], weights=shape[inner], minlength=samples).astype(np.float32)


def _envelope(speech: _Speech, band_hz: Floats) -> NDArray[np.float32]:
    """Gain of every frame and frequency [M, K], of power 1 per frame."""
    frequency = band_hz[None, :].astype(np.float32)
    octaves = np.log2(np.maximum(frequency, 200.0) / 200.0)
    level_db = speech.slope_db[:, None].astype(np.float32) * octaves
    gain = np.power(10.0, level_db / 20, dtype=np.float32)
    resonance = np.full((len(level_db), len(band_hz)), 0.08, dtype=np.float32)
    for k in range(speech.formants_hz.shape[1]):
        centre = speech.formants_hz[:, k : k + 1].astype(np.float32)
        # Each formant's peak undoes part of the slope, as the poles of a real tract in series do.
        resonance += 1 / (1 + np.square((frequency - centre) / np.float32(_BANDWIDTH_HZ[k])))
    gain = gain * resonance
    gain /= np.sqrt(np.square(gain).sum(axis=1, keepdims=True))
    return gain


def _transform(wave: NDArray[np.float32], *, hop: int, bins: int) -> NDArray[Any]:
    """Short-time spectra [M, bins] of Hann windows of four hops, window m centred on sample m * hop."""
    window = np.hanning(4 * hop + 1)[:-1].astype(np.float32)
    padded = np.pad(wave, (2 * hop, 2 * hop))
    views = np.lib.stride_tricks.sliding_window_view(padded, 4 * hop)[::hop]
    return np.fft.rfft(views * window, axis=1)[:, :bins].astype(np.complex64)


def _overlap(spectra: NDArray[Any], *, hop: int, samples: int) -> NDArray[np.float32]:
    """Turn short-time spectra back into samples; the inverse of `_transform` inside the band."""
    window = np.hanning(4 * hop + 1)[:-1].astype(np.float32)
    pieces = np.fft.irfft(spectra, n=4 * hop, axis=1).astype(np.float32) * (window / 1.5)
    count = len(pieces)
    total = np.zeros((count + 3, hop), dtype=np.float32)
    for k in range(4):
        total[k : k + count] += pieces[:, k * hop : (k + 1) * hop]
    return total.reshape(-1)[2 * hop : 2 * hop + samples]


def _record(rng: np.random.Generator, wave: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    """Microphone and room: gain fixed and wandering, none of it related to arousal, noise and hum."""
    seconds = len(wave) / rate_hz
    coarse_s = np.arange(0, seconds + 0.2, 0.1)
    level_db = -27 + rng.uniform(-7, 7) + 2.5 * smooth(rng, shortest_s=4.0, longest_s=25.0)(coarse_s)
    gain = np.interp(np.arange(len(wave)), coarse_s * rate_hz, 10 ** (level_db / 20)).astype(np.float32)
    noise = rng.standard_normal(len(wave), dtype=np.float32)
    # Share of the noise that is low rumble; its level below the voice differs from clip to clip.
    rumble = np.convolve(noise, np.ones(32, dtype=np.float32) / 32, mode="same") * 4
    floor = 10 ** (rng.uniform(-45, -25) / 20)
    hum_hz, hum = rng.uniform(48, 62), floor * rng.uniform(0, 1)
    buzz = np.sin(2 * np.pi * hum_hz * np.arange(len(wave)) / rate_hz).astype(np.float32)
    wave = (wave + np.float32(floor) * (0.5 * noise + rumble) + np.float32(hum) * buzz) * gain
    return np.tanh(wave, dtype=np.float32)


def synthesise_voice(
    person: Person,
    *,
    affect: Floats,
    affect_rate_hz: float,
    silences: Floats,
    seconds: float,
    rate_hz: int,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Make the sound of a person talking.

    Args:
        person: Who.
        affect: float64 [N, 2], valence and arousal in -1..1, sample i at i / affect_rate_hz seconds.
        affect_rate_hz: Samples of `affect` per second.
        silences: float64 [K, 2], stretches without voice, start and end in seconds.
        seconds: Length of the sound.
        rate_hz: Samples per second; a multiple of 100.
        rng: Source of the draws.

    Returns:
        float32 [round(seconds * rate_hz)] in (-1, 1), mono.

    Raises:
        ValueError: `rate_hz` is no multiple of 100, or `affect` is not [N, 2].
    """
    if rate_hz % _FRAMES_HZ or affect.ndim != 2 or affect.shape[1] != 2:
        raise ValueError(f"rate_hz {rate_hz} must be a multiple of 100 and affect [N, 2], not {affect.shape}")
    samples, hop = round(seconds * rate_hz), rate_hz // _FRAMES_HZ
    frame_s = np.arange(samples // hop + 1) / _FRAMES_HZ
    affect_s = np.arange(len(affect)) / affect_rate_hz
    at_frames = np.stack([np.interp(frame_s, affect_s, affect[:, k]) for k in range(2)], axis=1)
    speech = _speak(rng, voice=person.voice, affect=at_frames, seconds=seconds)
    band_hz: Floats = np.arange(2 * hop + 1, dtype=np.float64) * (_FRAMES_HZ / 4)
    band_hz = band_hz[band_hz <= _BAND_HZ]
    bins = len(band_hz)
    voiced = _transform(_pulses(rng, speech=speech, samples=samples, rate_hz=rate_hz), hop=hop, bins=bins)
    noise = _transform(rng.standard_normal(samples, dtype=np.float32), hop=hop, bins=bins)
    count = len(voiced)
    gain = _envelope(speech, band_hz)[:count]
    loudness = np.where(inside(frame_s, silences), 0.0, 1.0).astype(np.float32)[:count, None]
    hiss = np.exp(-0.5 * np.square((band_hz[None, :] - speech.friction_hz[:count, None]) / 900.0))
    hiss *= (speech.friction[:count, None] * 0.1).astype(np.float32)
    breath = np.float32(person.voice.breath * 0.5)
    shaped = gain * speech.loudness[:count, None].astype(np.float32)
    spectra = (voiced * shaped + noise * (breath * shaped + hiss.astype(np.float32))) * loudness
    # Band power 1 of `count` bins out of 2 * hop + 1 gives this much amplitude in time.
    wave = _overlap(spectra, hop=hop, samples=samples) * np.float32(np.sqrt(2.0 * hop))
    if len(wave) < samples:
        wave = np.pad(wave, (0, samples - len(wave)))
    return _record(rng, wave, rate_hz)
