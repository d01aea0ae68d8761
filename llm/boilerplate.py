"""Lines of a web page that are not its text: menus, cookie notices, copyright, sharing buttons.

A line goes only if all of it is such a thing, so the patterns match whole lines and only short
ones: a sentence that mentions cookies stays.
"""

import re

LONGEST = 200
"""Characters of a line that is looked at."""

LONGEST_BUTTON = 50
"""Characters of a button or link."""

BUTTONS = (
    r"(?:skip|jump|go) to (?:the )?(?:main )?(?:content|navigation|search|top)",
    r"back to (?:the )?top",
    r"(?:share|tweet|pin|pin it|like|like us|follow|follow us|save|print|e-?mail|bookmark"
    r"|subscribe)"
    r"(?:(?: this)?(?: (?:article|page|post|story))?(?: (?:on|to|via|with|by|in)"
    r" (?:facebook|twitter|x|linkedin|pinterest|reddit|whatsapp|telegram|instagram|youtube|tumblr"
    r"|e-?mail|rss|friends?|social media))?)?",
    r"(?:facebook|twitter|linkedin|pinterest|reddit|whatsapp|instagram|youtube|rss)",
    r"(?:log|sign)[ -]?(?:in|out|up)(?: (?:or|/) (?:log|sign)[ -]?(?:in|up))?|register|my account",
    r"(?:main |toggle |site )?(?:menu|navigation|nav)|home|site ?map|search|close|cancel|submit",
    r"(?:read|learn|see|show|view|load|find out)(?: more| all| less)(?: ?[.…»›>→]+)?|click here",
    r"(?:next|previous|older|newer)(?: (?:post|page|article|entry|entries|posts))?(?: ?[»«›‹→←]+)?",
    r"(?:leave|post|add) a (?:comment|reply)|(?:[0-9]+|no) comments?(?: yet)?|reply|permalink",
    r"(?:add to|view) (?:cart|basket|wish ?list|bag)",
    r"you may also like|related (?:posts|articles)",
    r"(?:sign up|subscribe) (?:for|to) (?:our|the) (?:free )?newsletter[.!]?|advertisements?",
    r"(?:privacy|cookies?)(?: (?:policy|notice|statement|settings|preferences))"
    r"|terms (?:of|and) (?:use|service|conditions)|contact us|about us|disclaimer",
    r"首页|返回顶部|回到顶部|上一[篇页]|下一[篇页]|分享到.{0,20}|关注我们|阅读全文|点击.{0,4}下载|登录|注册",
)
"""What buttons and links say."""

NOTICES = (
    r"(?:this|our) (?:web ?site|site|page) uses cookies\b.*",
    r"we (?:and our partners )?use cookies\b.*",
    r"(?:by|if you) (?:continue|continuing|us(?:e|ing)|browsing)\b.{0,60}\bcookies\b.*",
    r"(?:accept|reject|manage|allow)(?: all)? cookies[.!]?",
    r"(?:copyright\b|©|\(c\) ?(?=[0-9])).*[0-9]{4}.*",
    r".*\ball rights reserved[.!]?",
    r".*版权所有.*|.{0,20}icp备[0-9]+号.{0,10}",
)
"""What a site has to say about itself."""

NOTICE_WORDS = ("cookies", "copyright", "©", "(c)", "rights reserved", "版权", "icp备")
"""One of these is in every notice."""

ITEM = r"[a-z0-9][a-z0-9&'’/ -]{0,29}"

MENU = re.compile(rf"{ITEM}(?:(?: [|·•] | ?[»›] ?){ITEM}){{2,}}")
"""Home | News | Contact; neither rows of tables, which begin with a bar, nor sums of types."""

BUTTON = re.compile("|".join(f"(?:{part})" for part in BUTTONS))

NOTICE = re.compile("|".join(f"(?:{part})" for part in NOTICES))


def is_boilerplate(line: str) -> bool:
    """Whether a line is a page's furniture."""
    line = line.strip().lower()
    if not line or len(line) > LONGEST:
        return False
    if len(line) <= LONGEST_BUTTON and BUTTON.fullmatch(line):
        return True
    if any(word in line for word in NOTICE_WORDS) and NOTICE.fullmatch(line):
        return True
    return any(sign in line for sign in "|·•»›") and MENU.fullmatch(line) is not None
