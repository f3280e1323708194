"""How the page looks: by day and by night, wide and narrow. Colour underlines words, and never replaces them."""

STYLE = """
:root{color-scheme:light dark;--ink:#1c2126;--soft:#616a73;--page:#f6f7f8;--card:#fff;--line:#dfe3e7;--link:#0b57d0;
--healthy:#1a7f37;--warn:#9a6700;--stale:#bc4c00;--dead:#c4161c;--waiting:#0b57d0;--unreadable:#7c3aad}
@media(prefers-color-scheme:dark){:root{--ink:#e3e6e9;--soft:#9aa4ad;--page:#121416;--card:#1b1e21;--line:#30363c;
--link:#8ab4f8;--healthy:#56c271;--warn:#e0b341;--stale:#f0883e;--dead:#ff7b72;--waiting:#8ab4f8;--unreadable:#c79bf2}}
*{box-sizing:border-box}
body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;max-width:72rem;padding:1.2rem;color:var(--ink);
background:var(--page);overflow-wrap:anywhere}
a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
header{display:flex;gap:.8rem;align-items:center;flex-wrap:wrap}
h1{font-size:1.4rem;margin:0}h2{font-size:.85rem;margin:1.5rem 0 .5rem;color:var(--soft);text-transform:uppercase;
letter-spacing:.06em}h3{font-size:1rem;margin:0}
p{margin:.25rem 0}.quiet{color:var(--soft);font-size:.9em}.bad{color:var(--dead)}
.crews{display:grid;gap:.7rem;grid-template-columns:repeat(auto-fill,minmax(17rem,1fr))}
.crew,article,.note{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.7rem .9rem}
.note{margin:.6rem 0;border-left:4px solid var(--warn)}.note.bad{border-left-color:var(--dead);color:var(--ink)}
.note b{margin-right:.4rem}
article{margin:.7rem 0;border-left:4px solid var(--line)}
article.healthy{border-left-color:var(--healthy)}article.warn{border-left-color:var(--warn)}
article.stale{border-left-color:var(--stale)}article.dead{border-left-color:var(--dead)}
article.waiting{border-left-color:var(--waiting)}article.unreadable{border-left-color:var(--unreadable)}
table{border-collapse:collapse;width:100%}article table{margin-top:.5rem}
td{padding:.25rem .8rem .25rem 0;border-top:1px solid var(--line);vertical-align:top}
article td:nth-child(1){width:7rem}article td:nth-child(2){width:13rem}
.number{width:8rem;text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.level,.wedge{border:1px solid;border-radius:1rem;padding:0 .55rem;font-size:.85em;font-weight:600;white-space:nowrap}
.whole{white-space:nowrap}.wedge{font-weight:400;color:var(--soft)}
.level.healthy{color:var(--healthy)}.level.warn{color:var(--warn)}.level.stale{color:var(--stale)}
.level.dead{color:var(--card);background:var(--dead);border-color:var(--dead)}
.level.waiting{color:var(--waiting)}.level.unreadable{color:var(--unreadable)}
@media(max-width:40rem){article tr{display:grid;grid-template-columns:auto 1fr auto;border-top:1px solid var(--line)}
article td,article td:nth-child(n){border:0;width:auto}article td:nth-child(4){grid-column:1/-1}}
footer{margin-top:1.5rem}
"""
