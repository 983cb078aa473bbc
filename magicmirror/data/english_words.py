"""Common English words that prompts use beyond our captions, so that the tokenizer keeps them in one or few pieces."""

from __future__ import annotations

_TEXT = """
the of and to in is on at with for by from as into onto over under up down out off through across behind before after
between near beside around above below along against during without within towards until while when where who whose
which what why how that this these those there here then than so but or nor not no yes if because a an it its he she
him his her hers they them their we us our you your i me my one two three four five six seven eight nine ten first
second third last next other another each every all both some any many much more most few less very too also only just
still even again always never often sometimes soon now later today tonight be am are was were been being do does did
done doing have has had having can could may might must shall should will would
man woman boy girl baby person people child kid father mother brother sister son daughter wife husband friend king
queen prince princess doctor nurse teacher student chef cook farmer pilot sailor soldier knight wizard witch astronaut
scientist artist painter singer dancer musician actor actress model lawyer judge police officer firefighter detective
businessman businesswoman worker engineer writer poet reporter athlete player runner swimmer boxer cowboy pirate ninja
samurai warrior hero superhero monk priest nun bride groom clown magician vampire elf robot ghost angel
head face eye eyes eyebrow eyebrows nose mouth lips teeth tongue ear ears cheek cheeks chin jaw forehead neck hair beard
mustache skin shoulder shoulders arm arms hand hands finger fingers body chest back leg legs foot feet smile grin frown
tear tears freckles wrinkles dimples glasses sunglasses hat cap helmet hood scarf mask crown necklace earrings shirt
suit tie jacket coat dress sweater uniform armor robe apron gloves boots shoes jeans costume makeup lipstick tattoo
curly straight long short bald blonde brunette ginger gray bearded young old elderly middle-aged teenage adult tall
small big large little tiny huge thin wide round
turn turns turning look looks looking nod nods nodding shake shakes shaking tilt tilts tilting lean leans leaning move
moves moving walk walks walking run runs running sit sits sitting stand stands standing lie lying jump jumps jumping
dance dances dancing sing sings singing talk talks talking speak speaks speaking say says saying laugh laughs laughing
smiling smiles cry cries crying shout shouts shouting whisper whispers whispering yawn yawns yawning blink blinks
blinking wink winks winking sleep sleeps sleeping wake wakes eat eats eating drink drinks drinking read reads reading
write writes writing play plays playing work works working cook cooks cooking drive drives driving ride rides riding
swim swims swimming fly flies flying climb climbs fall falls falling wave waves waving hold holds holding carry carries
wear wears wearing open opens opening close closes closing raise raises raising lift lifts lower lowers bow bows gaze
gazes gazing stare stares staring glance glances watch watches watching see sees listen listens think thinks thinking
dream dreams wait waits waiting start starts begin begins stop stops stay stays keep keeps go goes come comes take takes
give gives make makes get gets put puts show shows use uses try tries point points touch touches kiss kisses hug hugs
pose poses posing breathe breathes react reacts express expresses express face faces facing rotate rotates
slowly quickly gently softly suddenly gradually calmly quietly slightly barely nearly almost happily sadly angrily
proudly nervously confidently carefully briefly fast slow quick sudden gentle soft calm quiet loud strong weak
left right side top bottom front center middle upward upwards downward downwards forward backward away closer
happy sad angry surprised scared afraid excited tired bored serious proud shy nervous confident friendly kind curious
confused worried relaxed peaceful gentle mysterious mischievous thoughtful joyful cheerful emotional intense dramatic
joy sadness anger fear surprise love hope wonder agreement disagreement emotion expression
red orange yellow green blue purple pink brown black white grey gold golden silver beige violet turquoise colored
colorful color colors colour tone tones dark darkness bright light lights lighting lit dim shadow shadows glow glowing
shiny warm cold cool hot icy neon pastel vivid pale rich deep
sun sunlight sunshine sunset sunrise moon moonlight star stars sky cloud clouds rain raining rainy snow snowing snowy
snowflakes storm wind windy fog foggy mist fire flames smoke candle candlelight lamp lantern lightning thunder winter
summer spring autumn day night morning evening dawn dusk noon midnight hour golden-hour weather
city street road park garden forest woods tree trees flower flowers grass leaf leaves field mountain mountains hill
river lake sea ocean beach sand island desert cave waterfall bridge house home room kitchen bedroom bathroom office
school library museum church castle palace tower stage theater studio shop store market restaurant cafe bar hospital
station airport train car bus bike boat ship plane rocket space spaceship planet moon earth world garden balcony window
door wall floor roof table chair sofa bed mirror book phone computer screen camera guitar piano drum violin microphone
ball cup glass bottle coffee tea bread cake fruit apple flower gift balloon umbrella sword shield flag map clock key
dog cat horse bird fish lion tiger bear wolf dragon butterfly owl rabbit
video clip film movie footage shot scene picture photo photograph image portrait close-up closeup headshot selfie frame
camera lens zoom zooms zooming pan pans panning focus blur blurred bokeh background foreground backdrop view angle
cinematic realistic photorealistic detailed detail high low quality resolution sharp clear crisp professional style
vintage retro classic modern old-fashioned antique futuristic fantasy anime cartoon comic painting oil watercolor
sketch drawing pencil digital art artistic abstract surreal noir monochrome sepia black-and-white grain grainy analog
documentary vlog interview news commercial trailer animation animated style 3d 4k 8k hd slow-motion time-lapse
beautiful handsome pretty cute lovely elegant fancy simple plain clean fresh new natural real true famous special
perfect great good nice bad best better full empty half whole same different single alone together busy free ready
wet dry heavy light hard easy early late near far inside outside indoors outdoors
water air ground stone wood metal glass paper cloth silk leather wool gold ice
time moment second minute year life story music song word name number thing way place part end line group set kind
looks like seen from towards the viewer straight ahead something someone everything nothing
"""


def english_words() -> tuple[str, ...]:
    """Return the words, each once, in the order of the list."""
    return tuple(dict.fromkeys(_TEXT.split()))


_FRAGMENTS = """
th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro ic ne ea
ra ce li ch ll be ma si om ur ca el ta la ns di fo ho pe ec pr no ct us ac ot il tr ly nc et ut ss so rs un lo wa ge ie
wh ee wi em ad ol rt po we na ul ni ts mo ow pa im mi ai sh ir su id os iv ia am fi ci vi pl ig tu ev ld ry mp fe bl ab
gh ty op wo sa ay ex ke fr oo av ag if ap gr od bo sp rd do uc bu ei ov by rm ep tt oc fa ef cu rn sc gi da yo cr cl du
ga qu ue ff ba ey ls va um pp ua up lu go ht ru ug ds lt pi rc rr eg au ck ew mu br bi pt ak pu ui rg ib tl ny ki rk ys
ob mm fu ph og ms ye ud mb ip ub oi rl gu dr hr cc tw ft wn nu af hu nn eo vo rv nf xp gn sm fl iz ok nl my gl aw ju oa
ing ion ent ati for ter hat tha ere ate his con res ver all ons nce men ith ted ers pro thi wit are ess not ive was ect
rea com eve per int est sta cti ica ist ear ain one our iti rat ell ant tion ment able ness ship ful less ous ive ity
man men land ville ton ham ster ber der ger ler ner per ser ver ker
"""


def word_fragments() -> tuple[str, ...]:
    """Return frequent pairs and groups of letters, from which words outside the list can be put together."""
    return tuple(dict.fromkeys(_FRAGMENTS.split()))
