"""What the posts of the probe corpus say: phrases around entities, and the chatter between them.

`{}` stands for the entity. No word of an ambiguous phrase, of a link or of the chatter has to do with any type.
"""

from __future__ import annotations

CLEAR: dict[str, tuple[str, ...]] = {
    "PER": (
        "actor {} waves to fans",
        "{} says she is sorry",
        "had coffee with uncle {}",
        "mister {} retires next year",
        "{} and his wife",
        "an interview with singer {}",
        "congratulations on your wedding {}",
        "rest in peace {}",
    ),
    "LOC": (
        "on the road to {}",
        "rain over {} all week",
        "the old town of {}",
        "our plane lands in {}",
        "hiking north of {}",
        "a cheap hostel near {}",
        "the mayor of {} resigns",
        "{} beach is closed",
    ),
    "ORG": (
        "shares of {} fell again",
        "{} reports record profit",
        "the head office of {}",
        "{} hires two hundred workers",
        "my internship at {}",
        "{} sues its rival",
        "a strike at {}",
        "customers of {} complain",
    ),
    "MISC": (
        "tickets for the {} festival",
        "season three of {} airs",
        "the final of the {} cup",
        "nominated for the {} award",
        "{} language lessons",
        "the {} marathon starts",
        "an episode of {} tonight",
        "winner of the {} prize",
    ),
    "VEH": (
        "test drive of the {}",
        "the {} needs new tyres",
        "parked my {} outside",
        "{} engine trouble",
        "horsepower of the {}",
        "sold my used {}",
        "the brakes of the {} failed",
        "{} runs on diesel",
    ),
    "ANI": (
        "{} wags its tail",
        "the vet examined {}",
        "feeding {} some hay",
        "walking {} on a leash",
        "adopted little {} from the shelter",
        "{} had four puppies",
        "{} sharpens its claws",
        "the fur of {} sheds",
    ),
    "FOOD": (
        "a recipe for {} soup",
        "ate {} with rice",
        "grilled {} for dinner",
        "a slice of {} pie",
        "{} with extra sauce",
        "spicy {} noodles",
        "the taste of {}",
        "frying {} in butter",
    ),
    "MUS": (
        "the lyrics of {}",
        "{} tops the charts",
        "humming the chorus of {}",
        "{} on vinyl",
        "the bass line of {}",
        "a cover version of {}",
        "{} remix on the radio",
        "singing {} at karaoke",
    ),
}

AMBIGUOUS = (
    "look at {}",
    "{} again",
    "just {}",
    "here is {}",
    "thinking of {}",
    "{} made my day",
    "so this is {}",
    "{} as always",
    "have you seen {}",
    "nobody like {}",
    "all about {} today",
    "thanks to {}",
    "{} for ever",
    "still amazed by {}",
    "remember {}",
    "voted for {}",
)

LINKS = (
    "{} in {colour}",
    "{colour} {}",
    "the {colour} {}",
    "{} ( {colour} )",
    "{} all {colour}",
    "{} , the {colour} one",
)

HINTS: dict[str, tuple[str, ...]] = {
    "PER": ("smiling", "elegant", "brave"),
    "LOC": ("sunny", "misty", "crowded"),
    "ORG": ("official", "global", "leading"),
    "MISC": ("legendary", "annual", "iconic"),
    "VEH": ("fast", "shiny", "sturdy"),
    "ANI": ("fluffy", "wild", "sleepy"),
    "FOOD": ("fresh", "sweet", "crispy"),
    "MUS": ("catchy", "mellow", "loud"),
}

OPENERS = (
    "ok",
    "so",
    "well",
    "wow",
    "guys",
    "honestly",
    "finally",
    "btw",
    "lol",
    "hey",
    "update",
    "no way",
    "good news",
)

FILLERS = (
    "what a week",
    "cannot believe it",
    "see you soon",
    "who else is awake",
    "no words",
    "please share",
    "more on that later",
    "love it",
    "not sure why",
    "two days to go",
    "good times",
    "here we go",
    "we did it",
    "check this out",
    "still waiting",
    "that was close",
    "photo by me",
    "stay tuned",
    "it is what it is",
    "back to work now",
)

JOINTS = (",", "and", ".", "!", "but", "...")

HASHTAGS = tuple(
    [
        "#tbt",
        "#love",
        "#wow",
        "#news",
        "#live",
        "#fun",
        "#friday",
        "#photo",
        "#mood",
        "#win",
        "#goals",
        "#nofilter",
        "#today",
        "#repost",
    ]
)
