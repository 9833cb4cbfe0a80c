"""Neutral text on which perplexity is measured, as a check of general damage: written here, about nothing disputed."""

PARAGRAPHS = [
    "A river begins where rain, melting snow or a spring gathers into a stream. On its way downhill it is joined by "
    "other streams, and the land that they all drain is called its basin. In the mountains the water is quick and "
    "cuts a narrow valley; in the plain it slows, bends from side to side, and drops the sand and mud that it "
    "carries. Where it meets the sea, these deposits may build up a delta.",
    "Bread is one of the oldest prepared foods. Flour and water are mixed into a dough, which is kneaded until it "
    "is smooth and elastic. Yeast, added as a powder or as part of a sourdough, feeds on the sugars in the flour "
    "and gives off a gas that makes the dough rise. In the oven the bubbles expand, the starch sets, and the "
    "outside dries into a crust whose colour depends on the heat.",
    "The Moon goes round the Earth in a little more than twenty-seven days and turns once about its own axis in the "
    "same time, so that it always shows us the same side. Its phases come from the changing angle at which sunlight "
    "falls on it. At new moon the lit half faces away from us, at full moon towards us. Between the two, the lit "
    "part grows or shrinks from one evening to the next.",
    "A library keeps books so that readers can find them. Each book has a number that stands for its subject, and "
    "the shelves follow the order of the numbers, so that books on one matter stand side by side. The catalogue, "
    "once a cabinet of cards, is now a database that can be searched by author, title or subject. Many libraries "
    "also lend music and films, and offer rooms in which to study in quiet.",
    "Honeybees live in colonies of many thousands. Most of them are workers, which clean the cells, feed the "
    "larvae, build the comb and, in the last weeks of their lives, gather nectar and pollen. A bee that has found a "
    "rich patch of flowers tells the others by a dance whose direction and length stand for the way to it. In "
    "winter the colony forms a tight cluster and lives on the honey that it stored in summer.",
    "Paper is made from plant fibres. Wood is cut into chips and cooked or ground until the fibres come apart, and "
    "the pulp is washed, thinned with water and spread on a moving screen. The water runs off, and the fibres "
    "settle into a thin mat that is pressed and dried between heated rollers. Old paper can be turned into pulp "
    "again, although its fibres become shorter each time that this is done.",
    "A lighthouse is a tower with a strong lamp that helps sailors to know where they are. Lenses gather the light "
    "into a beam, and as the lens turns, ships see a flash at regular intervals. The pattern of flashes differs "
    "from one lighthouse to the next and is printed on charts, so that a navigator can tell them apart at night. By "
    "day, the shape and the painted bands of the tower serve the same end.",
    "The piano has a keyboard of eighty-eight keys. When a key is pressed, a small hammer covered with felt strikes "
    "the strings of that note and falls back at once, so that they are free to sound. A damper returns to the "
    "strings when the key is let go. Pedals lift all the dampers together or shift the hammers, which changes how "
    "long and how loudly the notes ring. Its name comes from the Italian words for soft and loud.",
    "Glass is made by melting sand with soda and lime at a high temperature. The molten mass can be blown, pressed "
    "or drawn, and it stiffens slowly as it cools, without forming crystals. For windows it is poured on a bath of "
    "liquid tin, where it spreads into a sheet with smooth faces. Small amounts of metals give it colour: iron "
    "makes it green, cobalt makes it blue, and gold can turn it a deep red.",
    "Clouds form when moist air rises and cools. Cold air can hold less vapour than warm air, and what it cannot "
    "hold condenses on tiny grains of dust or salt into droplets. Flat layers of cloud come with air that rises "
    "slowly over a wide area, heaped ones with warm air that rises quickly from the ground. When the droplets or "
    "ice crystals have grown heavy enough, they fall as rain, snow or hail.",
    "A bicycle turns the force of the legs into motion with very little loss. The chain links a large toothed wheel "
    "at the pedals with a smaller one at the hub, and the ratio of their teeth decides how far each turn of the "
    "pedals takes the rider. A low gear makes climbing easier, a high gear suits a level road. Spoked wheels are "
    "light and strong because every spoke is under tension, and air in the tyres softens the road.",
    "Maps show a part of the Earth's surface on a flat sheet. Since the Earth is round, no map can keep areas, "
    "angles and distances true all at once, and every projection gives up some of them for the sake of others. The "
    "scale tells how many times smaller the map is than the land. Contour lines join points of equal height, so "
    "that where they lie close together the slope is steep, and where they lie apart it is gentle.",
]
