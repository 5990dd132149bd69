/// The looks of the HTML report. Light and dark, on a phone and in print; each mark has a word or a shape beside its colour.
enum ReportStyle {
  static let css = """
    :root { color-scheme: light dark; --back: #fff; --card: #f6f7f9; --text: #1a1d21; --muted: #565d66; --line: #d5d9df;
      --good: #1a7f37; --bad: #c4232b; --doubt: #8a5a00; --none: #59636e; --bar: #3b6fd4; --critical: #0b2f7a; --target: #b3261e;
      --phase: #a9b2bf; }
    @media (prefers-color-scheme: dark) { :root { --back: #14171b; --card: #1d2127; --text: #e8eaed; --muted: #a3abb6;
      --line: #353b44; --good: #4cc26b; --bad: #ff7b72; --doubt: #e3b341; --none: #a3abb6; --bar: #5d8cec; --critical: #b9d0ff;
      --target: #ff8a80; --phase: #5a6472; } }
    * { box-sizing: border-box; }
    body { margin: 0 auto; padding: 1.25rem; max-width: 72rem; background: var(--back); color: var(--text);
      font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
    h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .75rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; }
    h1, h2, p, td, th, dd, li, .label, .label b { overflow-wrap: anywhere; unicode-bidi: isolate; }
    .muted { color: var(--muted); }
    .verdict { border-left: .4rem solid var(--none); background: var(--card); padding: .75rem 1rem; border-radius: .25rem; margin: 0 0 1rem; }
    .verdict b { display: block; font-size: 1.25rem; text-transform: uppercase; letter-spacing: .03em; color: var(--none); }
    .passed { --mark: var(--good); } .failure, .failed { --mark: var(--bad); } .warning, .doubt { --mark: var(--doubt); }
    .verdict.passed, .verdict.failed, .verdict.doubt { border-color: var(--mark); }
    .verdict.passed b, .verdict.failed b, .verdict.doubt b { color: var(--mark); }
    .facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .6rem; margin: 0; }
    .facts div { background: var(--card); border-radius: .25rem; padding: .55rem .75rem; min-width: 0; }
    .facts dt { color: var(--muted); font-size: .85rem; } .facts dd { margin: 0; font-weight: 600; }
    .facts dd.small { font-weight: 400; font-size: .85rem; font-family: ui-monospace, "DejaVu Sans Mono", monospace; }
    .bad { color: var(--bad); font-weight: 600; } .mark { color: var(--mark, var(--muted)); font-weight: 600; }
    table { border-collapse: collapse; width: 100%; }
    th, td { text-align: left; vertical-align: top; padding: .4rem .6rem .4rem 0; border-bottom: 1px solid var(--line); }
    th { color: var(--muted); font-weight: 600; font-size: .85rem; }
    td.mark { white-space: nowrap; } td[data-name=check] { min-width: 8.5rem; } td[data-name=of] { min-width: 7rem; }
    .row { display: grid; grid-template-columns: minmax(9rem, 30%) minmax(0, 1fr) 8.5rem; column-gap: .75rem; align-items: stretch;
      break-inside: avoid; }
    .row > * { padding: .25rem 0; min-width: 0; } .row.step { border-top: 1px solid var(--line); }
    .row.phase { margin-top: .6rem; } .row.phase .label { font-weight: 700; }
    .row.phase .label::first-letter { text-transform: uppercase; }
    .took { text-align: right; font-variant-numeric: tabular-nums; font-size: .9rem; }
    .label small { display: block; color: var(--muted); font-weight: 400; }
    .track { position: relative; min-height: 1.9rem; }
    .bar { position: absolute; top: .5rem; height: .9rem; min-width: 4px; border-radius: 2px; background: var(--bar); }
    .phase .bar { top: .85rem; height: .3rem; background: var(--phase); }
    .bar.critical { background: var(--critical); top: .35rem; height: 1.2rem; }
    .bar.failed { background: repeating-linear-gradient(45deg, var(--bad) 0 5px, var(--back) 5px 8px); border: 1px solid var(--bad); }
    .bar.skipped { background: transparent; border: 1px dashed var(--muted); }
    .goal { position: absolute; top: 0; bottom: 0; border-left: 2px solid var(--target); }
    .goal.far { border-left-style: dashed; }
    .axis { position: relative; height: 1.6rem; }
    .axis span { position: absolute; top: 0; transform: translateX(-50%); color: var(--muted); font-size: .78rem; white-space: nowrap; }
    .axis span.first { transform: none; } .axis span.last { transform: translateX(-100%); }
    .goals { position: relative; height: 1.5rem; }
    .goals span { position: absolute; bottom: 0; color: var(--target); font-weight: 600; font-size: .82rem; white-space: nowrap; }
    .legend { display: flex; flex-wrap: wrap; gap: .3rem 1.25rem; color: var(--muted); font-size: .85rem; margin: .6rem 0 0; }
    .legend i { display: inline-block; position: static; width: 1.6rem; height: .8rem; margin-right: .4rem; vertical-align: -1px; }
    .legend i.bar.critical { height: .8rem; } .legend i.goal { width: 0; height: 1rem; }
    ul { padding-left: 1.2rem; } footer { margin-top: 2.5rem; color: var(--muted); font-size: .85rem; overflow-wrap: anywhere; }
    @media (max-width: 40rem) {
      body { padding: .9rem; }
      .row { grid-template-columns: minmax(0, 1fr) fit-content(42%); }
      .row .track { grid-column: 1 / -1; grid-row: 2; min-height: 1.6rem; padding: 0; }
      .row > .label, .row > .took { padding-bottom: 0; } .bar { top: .3rem; } .phase .bar { top: .6rem; } .bar.critical { top: .15rem; }
      .row.scale .label, .row.scale .took { display: none; }
      table.stack, .stack tbody, .stack tr, .stack td { display: block; width: 100%; } .stack thead { display: none; }
      .stack tr { border-bottom: 1px solid var(--line); padding: .5rem 0; } .stack td { border: 0; padding: .1rem 0; }
      .stack td[data-name]::before { content: attr(data-name) ": "; color: var(--muted); }
      .stack td:empty { display: none; }
    }
    @media print {
      @page { margin: 14mm; }
      :root { color-scheme: light; --back: #fff; --card: #f6f7f9; --text: #000; --muted: #444; --line: #bbb; --good: #1a7f37;
        --bad: #c4232b; --doubt: #8a5a00; --none: #59636e; --bar: #3b6fd4; --critical: #0b2f7a; --target: #b3261e; --phase: #a9b2bf; }
      * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
      body { padding: 0; max-width: none; font-size: 10.5pt; } h2 { break-after: avoid; } tr, li { break-inside: avoid; }
    }
    """
}
